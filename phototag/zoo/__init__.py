"""Build and install models."""
