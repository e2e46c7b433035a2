"""Embeddings of held-out cells and probes of cell types."""

from blend_pl.probes.fitting import EmbeddingFitConfig, FittedEmbeddings, fit_embeddings
from blend_pl.probes.probes import probe_scores

__all__ = ["EmbeddingFitConfig", "FittedEmbeddings", "fit_embeddings", "probe_scores"]
