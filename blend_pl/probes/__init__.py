"""Which cell is it: embeddings fitted for held-out cells, and probes that read cell types from them."""

from blend_pl.probes.fitting import EmbeddingFitConfig, FittedEmbeddings, fit_embeddings
from blend_pl.probes.probes import probe_scores

__all__ = ["EmbeddingFitConfig", "FittedEmbeddings", "fit_embeddings", "probe_scores"]
