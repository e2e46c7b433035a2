"""What test trials are scored against: the targets that the benchmark kept to itself, and has since released."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from blend_pl.data.io.download import CHUNK_BYTES, TIMEOUT_S, download_file, download_lock
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import DataError
from blend_pl.submission.layout import SessionSplits
from blend_pl.utils.files import sha256

TARGETS_FILE = "eval_data_test.h5"
TARGETS_SHA256 = "f2f434d30193251b58e6a693381fdd185c8fbc0e47d38f8810e65295bc42c865"
TARGETS_BYTES = 105_927_616
NLB_TOOLS_COMMIT = "42f8410b88e12db136910fa2f888b025ea0aa2ae"
TARGETS_URL = (
    f"https://media.githubusercontent.com/media/neurallatents/nlb_tools/{NLB_TOOLS_COMMIT}/data/{TARGETS_FILE}"
)
"""Where nlb_tools, in Git LFS, keeps the file of that digest and size."""

CONDITION_COLUMNS, INTERVAL_COLUMN = [0, 1, 2], 4
"""Columns of behaviour that is one value a trial (dmfc_rsg): effector, direction and prior; produced interval."""


def download_targets(
    folder: Path, url: str = TARGETS_URL, digest: str = TARGETS_SHA256, size: int = TARGETS_BYTES
) -> Path:
    """Downloads the released targets unless `folder` holds them already; goes on where an earlier attempt stopped.

    Args:
        folder: where the file goes.
        url: where it comes from.
        digest: its SHA-256 digest in hex.
        size: its bytes.

    Raises:
        DataError: no network, nothing there, another content, or the folder cannot be written.
    """
    import requests

    path = folder / TARGETS_FILE

    def read_from(start: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            if 400 <= response.status_code < 500:
                raise DataError(
                    f"{url} answers with HTTP status {response.status_code}; {_manual_download_hint(digest)}"
                )
            response.raise_for_status()
            # A server that knows no ranges starts from the beginning.
            skip = 0 if response.status_code == requests.codes.partial_content else start
            for chunk in response.iter_content(CHUNK_BYTES):
                yield chunk[skip:]
                skip = max(skip - len(chunk), 0)

    with download_lock(folder):
        if path.exists():
            if sha256(path) == digest:
                return path
            raise DataError(f"{path} is not the released file (sha256 {digest[:12]}); move it away")
        try:
            download_file(read_from, size, digest, path, f"{TARGETS_FILE} from {url}")
        except requests.RequestException as error:
            reason = f"{type(error).__name__} at {url}"
            raise DataError(
                f"cannot download {TARGETS_FILE}: {reason}; run again, or {_manual_download_hint(digest)}"
            ) from error
    return path


@dataclass(frozen=True)
class Targets:
    """A file of targets as nlb_tools writes them (Pei et al., 2021), a group for each set.

    Attributes:
        path: the file.
        sha256: its digest in hex.
    """

    path: Path
    sha256: str

    @classmethod
    def open(cls, path: Path) -> "Targets":
        """Takes the digest of a file.

        Raises:
            DataError: there is no such file, or it is not HDF5.
        """
        if not path.is_file():
            raise DataError(f"there is no file of targets {path}; correct --test_targets, or let it be: download")
        if not h5py.is_hdf5(path):
            raise DataError(f"{path} is no HDF5 file; give the {TARGETS_FILE} of nlb_tools, not its Git LFS pointer")
        return cls(path, sha256(path))

    @property
    def is_released(self) -> bool:
        """Whether this is the file that the benchmark released."""
        return self.sha256 == TARGETS_SHA256

    def fill(self, group: str, splits: SessionSplits) -> SessionSplits:
        """The same sessions with all that the targets say: spikes of evaluation trials, behaviour, conditions.

        Args:
            group: name of the set in the file.
            splits: training and evaluation trials, whose held-out units may be unrecorded.

        Raises:
            DataError: the file lacks the set or a key, or holds other trials, bins or units.
        """
        try:
            with h5py.File(self.path, "r") as file:
                if group not in file:
                    raise DataError(f"{self.path} has no targets of {group}; it holds {', '.join(file) or 'nothing'}")
                return _TargetFiller(file[group], f"{group} of {self.path}").fill(splits)
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {' '.join(str(error).split())}; get it again") from error


class _TargetFiller:
    """The targets of one set."""

    def __init__(self, group: h5py.Group, location: str) -> None:
        self.group, self.location = group, location

    def fill(self, splits: SessionSplits) -> SessionSplits:
        evaluation = self._with_conditions(self._with_spikes(splits.evaluation))
        if self._dataset("eval_behavior").ndim == 2:
            return SessionSplits(splits.train, self._with_intervals(evaluation))
        return SessionSplits(self._with_behavior("train", splits.train), self._with_behavior("eval", evaluation))

    def _with_spikes(self, session: SessionTensors) -> SessionTensors:
        """Held-out units of the observed bins, and all units of the forward bins."""
        n_trials, n_observed, n_forward, n_heldin = (
            len(session),
            session.n_observed,
            session.n_forward,
            session.n_heldin,
        )
        n_heldout = session.n_units - n_heldin
        spikes, observed = session.spikes.clone(), session.observed.clone()
        target_slices = [("eval_spikes_heldout", slice(0, n_observed), n_observed, 1, slice(n_heldin, None), n_heldout)]
        if n_forward:
            target_slices += [
                ("eval_spikes_heldin_forward", slice(n_observed, None), n_forward, 0, slice(0, n_heldin), n_heldin),
                (
                    "eval_spikes_heldout_forward",
                    slice(n_observed, None),
                    n_forward,
                    1,
                    slice(n_heldin, None),
                    n_heldout,
                ),
            ]
        for key, bin_slice, n_bins, unit_group, unit_slice, n_units in target_slices:
            counts = self._read_tensor(key, (n_trials, n_bins, n_units))
            recorded = ~counts.isnan().any(2)
            filled_counts = counts.nan_to_num()
            if (
                (filled_counts != filled_counts.round()).any()
                or (filled_counts < 0).any()
                or (filled_counts > torch.iinfo(spikes.dtype).max).any()
            ):
                raise DataError(f"{key} in {self.location} holds no spike counts; get that file again")
            spikes[:, bin_slice, unit_slice] = filled_counts.to(spikes.dtype) * recorded[..., None]
            observed[:, bin_slice, unit_group] = recorded
        return replace(session, spikes=spikes, observed=observed)

    def _with_behavior(self, split: str, session: SessionTensors) -> SessionTensors:
        """Lagged behaviour over time, and the decoders that trials belong to."""
        bins, channels = session.n_observed, session.n_series
        behavior, mask = session.behavior.clone(), session.decode_mask
        behavior[:, :bins, :channels] = self._read_tensor(f"{split}_behavior", (len(session), bins, channels)).float()
        if f"{split}_decode_mask" in self.group:
            mask = self._read_tensor(f"{split}_decode_mask", tuple(mask.shape)).bool()
        return replace(session, behavior=behavior, decode_mask=mask)

    def _with_intervals(self, session: SessionTensors) -> SessionTensors:
        """Produced intervals, the conditions in which they are compared, and the bins between their two events."""
        values = self._read_tensor("eval_behavior", (len(session), INTERVAL_COLUMN + 1))
        group = torch.full((len(session),), -1)
        valid = values[:, [*CONDITION_COLUMNS, INTERVAL_COLUMN]].isfinite().all(1)
        group[valid] = values[valid][:, CONDITION_COLUMNS].unique(dim=0, return_inverse=True)[1]
        produced = values[:, INTERVAL_COLUMN].masked_fill(~valid, torch.nan)
        # Whatever is not between the events has no targets.
        scored = session.observed[:, : session.n_observed, 1]
        return replace(session, timing_condition=group, produced_interval=produced, scoring_mask=scored)

    def _with_conditions(self, session: SessionTensors) -> SessionTensors:
        """Responses to conditions, and the condition of each trial."""
        if "psth" not in self.group:
            return session
        trials_by_condition = self._dataset("eval_cond_idx")[()]
        psth = self._read_tensor("psth", (len(trials_by_condition), session.n_observed, session.n_units))
        condition = torch.full((len(session),), -1)
        for row, trials in enumerate(trials_by_condition):
            trials = torch.from_numpy(np.asarray(trials, dtype=np.int64))
            if len(trials) and not 0 <= int(trials.min()) <= int(trials.max()) < len(session):
                raise DataError(
                    f"eval_cond_idx in {self.location} names trials beyond {len(session)}; it is another set"
                )
            condition[trials] = row
        jitter = session.jitter
        if "eval_jitter" in self.group:
            jitter = self._read_tensor("eval_jitter", (len(session),)).long()
        return replace(session, psth=psth, condition=condition, jitter=jitter)

    def _dataset(self, key: str) -> h5py.Dataset:
        if key not in self.group:
            raise DataError(f"{self.location} lacks {key}; get the {TARGETS_FILE} of nlb_tools")
        return self.group[key]

    def _read_tensor(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """A float64 tensor of that shape."""
        dataset = self._dataset(key)
        if dataset.shape != shape:
            raise DataError(
                f"{key} in {self.location} has shape {dataset.shape}, but the runs' session asks for {shape}; use targets "
                "of the same recording and bin width, and runs of all its trials"
            )
        return torch.from_numpy(dataset[()].astype(np.float64))


def _manual_download_hint(digest: str) -> str:
    return f"get {TARGETS_FILE} from nlb_tools by hand (sha256 {digest[:12]}) and give its path to --test_targets"
