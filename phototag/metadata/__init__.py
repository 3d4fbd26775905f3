"""Tags into the files of a library."""
