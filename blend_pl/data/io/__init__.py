"""Input and output that the three kinds of recordings share: NWB, MATLAB, cache, download, generated files."""
