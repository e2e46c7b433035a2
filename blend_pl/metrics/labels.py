"""Names of scores in tables and figures."""

SCORE_LABELS = {
    "co_bps": "co-bps",
    "vel_r2": "velocity R2",
    "speed_r2": "speed R2",
    "pos_r2": "position R2",
    "tp_corr": "tp corr",
    "psth_r2": "PSTH R2",
    "fp_bps": "fp-bps",
}
SCORE_LABELS |= {
    f"{task}_{score}": f"{task_name}, {name}"
    for task, task_name in {"ei": "E/I", "subclass": "subclass"}.items()
    for score, name in {"top1": "top-1", "balanced": "balanced", "f1": "macro-F1"}.items()
}
SCORE_LABELS |= {
    "new_r2": "velocity R2, new sessions",
    "cka": "CKA to teacher",
    "retrieval": "retrieval of teacher's bin",
}
"""Display name of each score."""

LOWER_IS_BETTER = ("tp_corr",)
"""Scores of which lower values are better."""
