"""Released targets of the NLB'21 test trials, which recordings do not contain."""

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
"""Address of the file with this digest and size in the Git LFS storage of nlb_tools."""

CONDITION_COLUMNS, INTERVAL_COLUMN = [0, 1, 2], 4
"""Columns of trial-level behavior in dmfc_rsg: effector, direction and prior; produced interval."""


def download_targets(
    folder: Path, url: str = TARGETS_URL, digest: str = TARGETS_SHA256, size: int = TARGETS_BYTES
) -> Path:
    """Downloads the released targets if `folder` does not hold them; resumes a partial download.

    Args:
        folder: target folder.
        url: address of the file.
        digest: SHA-256 digest of the file, in hex.
        size: size of the file, in bytes.

    Raises:
        DataError: the network or the file is not available, the content differs, or the folder cannot be written.
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
            # A server without range support sends the file from its start.
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
    """File of targets in the format of nlb_tools (Pei et al., 2021), with one group per set.

    Attributes:
        path: path of the file.
        sha256: SHA-256 digest of the file, in hex.
    """

    path: Path
    sha256: str

    @classmethod
    def open(cls, path: Path) -> "Targets":
        """Opens a file of targets and computes its digest.

        Raises:
            DataError: the file does not exist or is not HDF5.
        """
        if not path.is_file():
            raise DataError(f"no file of targets at {path}; correct --test_targets, or use --test_targets download")
        if not h5py.is_hdf5(path):
            raise DataError(f"{path} is not an HDF5 file; use the {TARGETS_FILE} of nlb_tools, not its Git LFS pointer")
        return cls(path, sha256(path))

    @property
    def is_released(self) -> bool:
        """Whether the file is the one released by the benchmark."""
        return self.sha256 == TARGETS_SHA256

    def fill(self, group: str, splits: SessionSplits) -> SessionSplits:
        """Returns the sessions with spikes of evaluation trials, behavior and conditions from the targets.

        Args:
            group: name of the set in the file.
            splits: training and evaluation trials; held-out units may be unobserved.

        Raises:
            DataError: the file lacks the set or a key, or its trials, bins or units differ.
        """
        try:
            with h5py.File(self.path, "r") as file:
                if group not in file:
                    raise DataError(f"{self.path} has no targets of {group}; it holds {', '.join(file) or 'nothing'}")
                return _TargetFiller(file[group], f"{group} of {self.path}").fill(splits)
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {' '.join(str(error).split())}; download it again") from error


class _TargetFiller:
    """Fills sessions with the targets of one set."""

    def __init__(self, group: h5py.Group, location: str) -> None:
        self.group, self.location = group, location

    def fill(self, splits: SessionSplits) -> SessionSplits:
        evaluation = self._with_conditions(self._with_spikes(splits.evaluation))
        if self._dataset("eval_behavior").ndim == 2:
            return SessionSplits(splits.train, self._with_intervals(evaluation))
        return SessionSplits(self._with_behavior("train", splits.train), self._with_behavior("eval", evaluation))

    def _with_spikes(self, session: SessionTensors) -> SessionTensors:
        """Adds spikes of held-out units in observed bins and of all units in forward bins."""
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
                raise DataError(f"{key} in {self.location} does not hold spike counts; download the file again")
            spikes[:, bin_slice, unit_slice] = filled_counts.to(spikes.dtype) * recorded[..., None]
            observed[:, bin_slice, unit_group] = recorded
        return replace(session, spikes=spikes, observed=observed)

    def _with_behavior(self, split: str, session: SessionTensors) -> SessionTensors:
        """Adds the lagged behavior and the decoder mask."""
        bins, channels = session.n_observed, session.n_series
        behavior, mask = session.behavior.clone(), session.decode_mask
        behavior[:, :bins, :channels] = self._read_tensor(f"{split}_behavior", (len(session), bins, channels)).float()
        if f"{split}_decode_mask" in self.group:
            mask = self._read_tensor(f"{split}_decode_mask", tuple(mask.shape)).bool()
        return replace(session, behavior=behavior, decode_mask=mask)

    def _with_intervals(self, session: SessionTensors) -> SessionTensors:
        """Adds produced intervals, their timing conditions, and the mask of scored bins."""
        values = self._read_tensor("eval_behavior", (len(session), INTERVAL_COLUMN + 1))
        timing_condition = torch.full((len(session),), -1)
        valid = values[:, [*CONDITION_COLUMNS, INTERVAL_COLUMN]].isfinite().all(1)
        timing_condition[valid] = values[valid][:, CONDITION_COLUMNS].unique(dim=0, return_inverse=True)[1]
        produced_interval = values[:, INTERVAL_COLUMN].masked_fill(~valid, torch.nan)
        # Only the bins between the two events have targets.
        scoring_mask = session.observed[:, : session.n_observed, 1]
        return replace(
            session, timing_condition=timing_condition, produced_interval=produced_interval, scoring_mask=scoring_mask
        )

    def _with_conditions(self, session: SessionTensors) -> SessionTensors:
        """Adds the PSTHs and the condition of each trial."""
        if "psth" not in self.group:
            return session
        trials_by_condition = self._dataset("eval_cond_idx")[()]
        psth = self._read_tensor("psth", (len(trials_by_condition), session.n_observed, session.n_units))
        condition = torch.full((len(session),), -1)
        for row, trials in enumerate(trials_by_condition):
            trials = torch.from_numpy(np.asarray(trials, dtype=np.int64))
            if len(trials) and not 0 <= int(trials.min()) <= int(trials.max()) < len(session):
                raise DataError(
                    f"eval_cond_idx in {self.location} refers to trials beyond {len(session)}; "
                    "use the targets of the same set"
                )
            condition[trials] = row
        jitter = session.jitter
        if "eval_jitter" in self.group:
            jitter = self._read_tensor("eval_jitter", (len(session),)).long()
        return replace(session, psth=psth, condition=condition, jitter=jitter)

    def _dataset(self, key: str) -> h5py.Dataset:
        if key not in self.group:
            raise DataError(f"{self.location} lacks {key}; use the {TARGETS_FILE} of nlb_tools")
        return self.group[key]

    def _read_tensor(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """Reads a dataset of the given shape as float64."""
        dataset = self._dataset(key)
        if dataset.shape != shape:
            raise DataError(
                f"{key} in {self.location} has shape {dataset.shape}, but the session of the runs requires {shape}; "
                "use targets of the same recording and bin width, and runs on all its trials"
            )
        return torch.from_numpy(dataset[()].astype(np.float64))


def _manual_download_hint(digest: str) -> str:
    return f"download {TARGETS_FILE} of nlb_tools manually (sha256 {digest[:12]}) and pass its path to --test_targets"
