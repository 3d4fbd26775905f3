"""The photos of a library as files: which there are, what kind each is, and which change."""
