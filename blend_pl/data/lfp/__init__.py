"""Spikes with field potentials: recordings of both, from which a student learns to do with the latter alone."""
