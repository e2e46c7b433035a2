"""Scores of a trained system on data that training did not use."""

from collections.abc import Mapping

import lightning as L

from blend_pl.callbacks import DecodingEvaluation, Evaluation, IdentityEvaluation, NLBEvaluation
from blend_pl.data.base import NeuralDataModule
from blend_pl.data.calcium.module import CalciumDataModule
from blend_pl.data.lfp.module import MultiSessionDataModule
from blend_pl.errors import ConfigError
from blend_pl.metrics.labels import SCORE_LABELS
from blend_pl.systems.base import NeuralSystem
from blend_pl.utils.quiet import quiet_libraries


class Scores(dict[str, float]):
    """Scores by name, such as `scores["co_bps"]`; printed as a table.

    Args:
        scores: the scores of a system.
        oracle: the scores of the true rates, the best that a system can reach; None if they are not known.
    """

    def __init__(self, scores: Mapping[str, float], oracle: Mapping[str, float] | None = None) -> None:
        super().__init__(scores)
        self.oracle = dict(oracle) if oracle else None

    def __repr__(self) -> str:
        labels = {key: SCORE_LABELS.get(key, key) for key in self}
        width = max(map(len, labels.values()), default=0)
        lines = []
        for key, score in self.items():
            line = f"{labels[key]:{width}}  {score:8.4f}"
            lines.append(f"{line}  (true rates {self.oracle[key]:.4f})" if self.oracle and key in self.oracle else line)
        return "\n".join(lines)


def evaluate(system: NeuralSystem, datamodule: NeuralDataModule) -> Scores:
    """Scores a trained system as `python -m blend_pl test` does.

    Args:
        system: a trained student or teacher.
        datamodule: the data. Trials of NLB'21 are scored by co-bps, velocity R2, PSTH R2 and fp-bps (Pei et al., 2021),
            cells by the types that probes decode from their embeddings, LFP by velocity R2 of a linear decoder.

    Returns:
        The scores.

    Raises:
        ConfigError: the system is not trained, or cannot be scored on these data.
        DataError: the data are missing or damaged, or are not those of the system.
        TeacherError: the system is a teacher, and the data lack its privileged input.
    """
    if system.signature is None:
        raise ConfigError(f"the {type(system).__name__} is not trained; call trainer.fit with it first")
    evaluation = _make_evaluation(datamodule)
    with quiet_libraries():
        trainer = L.Trainer(
            devices=1,
            logger=False,
            callbacks=[evaluation],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.test(system, datamodule=datamodule, verbose=False)
    return Scores(evaluation.scores, evaluation.oracle)


def _make_evaluation(datamodule: NeuralDataModule) -> Evaluation:
    if isinstance(datamodule, CalciumDataModule):
        return IdentityEvaluation()
    return DecodingEvaluation() if isinstance(datamodule, MultiSessionDataModule) else NLBEvaluation()
