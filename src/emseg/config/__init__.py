"""Configuration: one tutorial YAML becomes a typed tree whose leaves are built by name."""
