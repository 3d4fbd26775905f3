"""Analyze photos. The results can be stored."""
