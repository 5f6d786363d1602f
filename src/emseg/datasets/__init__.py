"""What is public: data sets downloaded, prepared, converted; files handed in; published tables."""
