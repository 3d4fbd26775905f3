"""Turning the bytes of a photo into the pixels that a model takes."""
