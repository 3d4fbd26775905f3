"""phototag writes the tags a person would give a photo into the photo's library."""

__version__ = "0.1.0"
