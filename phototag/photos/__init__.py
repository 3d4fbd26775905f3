"""The photos of a library as files: finding them, recognizing their kind, and noticing changes."""
