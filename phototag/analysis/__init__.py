"""Find out what a photo shows, as results that can be stored."""
