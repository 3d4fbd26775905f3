"""Read and write the tags in photos and sidecars."""
