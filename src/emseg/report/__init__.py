"""One page in HTML about a test: scores, sections, and the worst errors with pictures."""
