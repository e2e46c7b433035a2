"""The command line: commands, the Lightning trainer, W&B tracking."""
