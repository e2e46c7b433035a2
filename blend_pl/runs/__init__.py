"""Run folders, their results, teachers trained on demand and W&B artifacts."""
