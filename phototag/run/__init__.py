"""Runs over a library, and the session that starts them."""
