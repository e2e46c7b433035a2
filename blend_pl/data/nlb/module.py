"""A session in the form of NLB'21 as a LightningDataModule: found or made, binned once, served as batches."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import lightning as L
import torch
from torch import Tensor

from blend_pl.data.io.cache import cached
from blend_pl.data.io.generated import folder_of
from blend_pl.data.nlb.archive import locate
from blend_pl.data.nlb.batches import Standardisation, TrialBatches, TrialSampler
from blend_pl.data.nlb.reading import read_session, read_test_file
from blend_pl.data.nlb.session import SessionTensors, Signature, concatenate
from blend_pl.data.nlb.simulation.files import GROUND_TRUTH_FILE, TEST_FILE, TRAIN_FILE, write_session
from blend_pl.data.nlb.simulation.ground_truth import fingerprint, read_rates
from blend_pl.data.nlb.simulation.parameters import Simulation
from blend_pl.data.nlb.spec import Files, SessionSpec
from blend_pl.errors import ConfigError, DataError


class NLBDataModule(L.LightningDataModule):
    """One session, a benchmark set or a user's own, as its spec says.

    After `setup` the parts are: "fit" (trials that gradients come from), "selection" (trials that choose the
    checkpoint), "train" (all trials that a decoder may be fitted on) and "eval" (trials that are reported).

    Args:
        spec: what the session is made of.
        root: data folder; files are searched below it, and downloaded or simulated into it.
        bin_ms: bin width, 5 or 20 in the benchmark.
        phase: "val" trains on train and evaluates on val; "test" trains on train and val and predicts test, whose
            held-out neurons and behaviour are absent.
        source: "files" reads recordings; "simulated" writes a session of `simulation` first and reads that.
        simulation: parameters of the simulated session.
        batch_size: trials a training batch, per process.
        eval_batch_size: trials a batch when nothing is trained.
        select_on: trials that choose the checkpoint: "train_holdout", a fixed inner split of the training trials, or
            "val", the reported trials themselves, as other code does.
        holdout: share of the training trials in the inner split.
        cache_dir: folder of binned tensors; None for `root`/cache.
    """

    def __init__(
        self,
        spec: SessionSpec,
        root: str = "data",
        bin_ms: int = 5,
        phase: Literal["val", "test"] = "val",
        source: Literal["files", "simulated"] = "files",
        simulation: Simulation = Simulation(),  # noqa: B008
        batch_size: int = 64,
        eval_batch_size: int = 256,
        select_on: Literal["train_holdout", "val"] = "train_holdout",
        holdout: float = 0.2,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.bin_ms, self.phase = spec, bin_ms, phase
        self.source, self.simulation = source, simulation
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.select_on, self.holdout = select_on, holdout
        self.root = Path(root)
        self.cache_dir = Path(cache_dir) if cache_dir else self.root / "cache"
        self.parts: dict[str, SessionTensors] = {}
        self.placed: dict[tuple[str, torch.device], SessionTensors] = {}
        if phase == "test" and select_on == "val":
            raise ConfigError("phase test trains on the val trials too; set data.select_on to train_holdout")

    def setup(self, stage: str) -> None:
        """Finds, downloads or simulates the session, and divides its trials; safe in many processes at once.

        To predict the test trials, the test file alone is enough.

        Raises:
            DataError: a file is missing or damaged, or a part would be empty.
        """
        if self.parts:
            return
        if stage == "predict" and self.phase == "test" and self.spec.files.test is not None:
            self.parts = {"eval": self._read_test_file()}
            return
        splits = self._read()
        reported = "val" if self.phase == "val" else "test"
        for name in ("train", reported):
            if name not in splits:
                raise DataError(f"{self.spec.name} has no {name} trials; check data.spec.split and data.phase")
        train = splits["train"]
        if self.phase == "test" and "val" in splits:
            train = concatenate(train, splits["val"])
        self.parts = {"fit": train, "selection": splits[reported], "train": train, "eval": splits[reported]}
        if self.select_on == "train_holdout":
            chosen = holdout_mask(len(train), self.holdout)
            self.parts |= {"fit": train.select(~chosen), "selection": train.select(chosen)}

    @property
    def signature(self) -> Signature:
        """What a model must agree with to run on this session."""
        parts = self.parts
        return Signature.of(self.spec.name, parts["train"] if "train" in parts else parts["eval"])

    @property
    def selection(self) -> str:
        """How the checkpoint is chosen, for the record."""
        return f"{self.select_on} ({len(self.parts['selection'])} trials)"

    @property
    def reports_behavior(self) -> bool:
        """Whether the reported trials have behaviour, which a teacher must see."""
        return bool(self.parts["eval"].behavior.isfinite().any())

    def true_rates(self, part: str) -> Tensor | None:
        """Expected counts per bin that generated the spikes, (trials, T', N); None for real recordings."""
        if self.source != "simulated":
            return None
        return read_rates(self._simulated() / GROUND_TRUTH_FILE, self.parts[part].trial_id, self.bin_ms)

    def train_dataloader(self) -> TrialBatches:
        return self._batches("fit", self.batch_size, shuffle=True)

    def val_dataloader(self) -> TrialBatches:
        return self._batches("selection", self.eval_batch_size)

    def test_dataloader(self) -> list[TrialBatches]:
        """The trials a decoder may be fitted on, and the reported ones, both in the order of the recording."""
        return [self._batches(part, self.eval_batch_size) for part in ("train", "eval")]

    def predict_dataloader(self) -> TrialBatches:
        """The reported trials."""
        return self._batches("eval", self.eval_batch_size)

    def calibration_dataloader(self) -> TrialBatches:
        """All trials that gradients come from, in the order of the recording, the same on every rank."""
        return self._batches("fit", self.eval_batch_size, whole=True)

    def _files(self) -> tuple[Files, Path]:
        if self.source == "files":
            return self.spec.files, self.root
        return Files(TRAIN_FILE, TEST_FILE), self._simulated()

    def _simulated(self) -> Path:
        folder = folder_of(self.root, fingerprint(self.simulation))
        write_session(self.simulation, folder)
        return folder

    def _read(self) -> dict[str, SessionTensors]:
        files, root = self._files()
        if self.phase == "val":
            files = replace(files, test=None)
        train_file, test_file = locate(files, root, self.spec.archive)
        recordings = [train_file] if test_file is None else [train_file, test_file]
        return self._cached(
            recordings, self.phase, lambda: read_session(self.spec, train_file, test_file, self.bin_ms, self.phase)
        )

    def _read_test_file(self) -> SessionTensors:
        files, root = self._files()
        assert files.test is not None
        test_file, _ = locate(Files(files.test), root, self.spec.archive)
        sessions = self._cached(
            [test_file], "test file", lambda: {"test": read_test_file(self.spec, test_file, self.bin_ms)}
        )
        return sessions["test"]

    def _cached(
        self, recordings: list[Path], part: str, make: Callable[[], dict[str, SessionTensors]]
    ) -> dict[str, SessionTensors]:
        settings = {"spec": self.spec, "bin_ms": self.bin_ms, "part": part}
        return cached(self.cache_dir, recordings, settings, make)

    def _batches(self, part: str, batch_size: int, shuffle: bool = False, whole: bool = False) -> TrialBatches:
        session, seed, device = self.parts[part], 0, torch.device("cpu")
        rank, world_size = 0, 1
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
            seed = self.trainer.strategy.broadcast(torch.initial_seed())
            if not whole:
                rank, world_size = self.trainer.global_rank, self.trainer.world_size
        sampler = TrialSampler(len(session), batch_size, shuffle, seed, rank, world_size)
        standardisation = Standardisation.fit(self.parts.get("fit", session).behavior)
        # Models that train together have one copy on their device.
        if (part, device) not in self.placed:
            self.placed[part, device] = session.to(device)
        return TrialBatches(self.placed[part, device], standardisation, sampler)


def holdout_mask(n_trials: int, share: float) -> Tensor:
    """Which training trials form the inner split: the same in every run, so that seeds and arms can be compared.

    Raises:
        ConfigError: one of the two sides would be empty.
    """
    held = round(n_trials * share)
    if not 0 < held < n_trials:
        raise ConfigError(
            f"data.holdout {share} of {n_trials} training trials leaves a side empty; choose another share"
        )
    mask = torch.zeros(n_trials, dtype=torch.bool)
    mask[torch.randperm(n_trials, generator=torch.Generator().manual_seed(0))[:held]] = True
    return mask
