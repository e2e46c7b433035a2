"""File access shared by all recordings: NWB, MATLAB, cache, downloads, generated files."""
