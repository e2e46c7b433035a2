"""Sessions in the form of NLB'21: spec, reading, batches, simulated sessions and the data module."""
