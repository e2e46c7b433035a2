"""Which cell is it: embeddings fitted for held-out cells, and probes that read cell types from them."""

from blend_pl.identity.fitting import EmbeddingFit, FittedEmbeddings, fit_embeddings
from blend_pl.identity.probes import probe_scores

__all__ = ["EmbeddingFit", "FittedEmbeddings", "fit_embeddings", "probe_scores"]
