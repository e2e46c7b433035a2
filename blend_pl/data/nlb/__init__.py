"""Sessions in the format of NLB'21: spec, reading, batches, simulated sessions and the data module."""
