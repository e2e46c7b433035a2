"""What test trials are scored against: the targets that the benchmark kept to itself, and has since released."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from blend_pl.data.io.download import CHUNK_BYTES, TIMEOUT_S, one_process, transfer
from blend_pl.data.nlb.session import SessionTensors
from blend_pl.errors import DataError
from blend_pl.submission.layout import Sessions
from blend_pl.utils.files import sha256

FILE = "eval_data_test.h5"
SHA256 = "f2f434d30193251b58e6a693381fdd185c8fbc0e47d38f8810e65295bc42c865"
SIZE = 105_927_616
COMMIT = "42f8410b88e12db136910fa2f888b025ea0aa2ae"
URL = f"https://media.githubusercontent.com/media/neurallatents/nlb_tools/{COMMIT}/data/{FILE}"
"""Where nlb_tools, in Git LFS, keeps the file of that digest and size."""

CONDITION, INTERVAL = [0, 1, 2], 4
"""Columns of behaviour that is one value a trial (dmfc_rsg): effector, direction and prior; produced interval."""


def download_targets(folder: Path, url: str = URL, digest: str = SHA256, size: int = SIZE) -> Path:
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

    path = folder / FILE

    def read_from(start: int) -> Iterator[bytes]:
        asked = {"Range": f"bytes={start}-"} if start else {}
        with requests.get(url, headers=asked, stream=True, timeout=TIMEOUT_S) as answer:
            if 400 <= answer.status_code < 500:
                raise DataError(f"{url} answers with HTTP status {answer.status_code}; {_by_hand(digest)}")
            answer.raise_for_status()
            # A server that knows no ranges starts from the beginning.
            skip = 0 if answer.status_code == requests.codes.partial_content else start
            for chunk in answer.iter_content(CHUNK_BYTES):
                yield chunk[skip:]
                skip = max(skip - len(chunk), 0)

    with one_process(folder):
        if path.exists():
            if sha256(path) == digest:
                return path
            raise DataError(f"{path} is not the released file (sha256 {digest[:12]}); move it away")
        try:
            transfer(read_from, size, digest, path, f"{FILE} from {url}")
        except requests.RequestException as error:
            reason = f"{type(error).__name__} at {url}"
            raise DataError(f"cannot download {FILE}: {reason}; run again, or {_by_hand(digest)}") from error
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
            raise DataError(f"{path} is no HDF5 file; give the {FILE} of nlb_tools, not its Git LFS pointer")
        return cls(path, sha256(path))

    @property
    def released(self) -> bool:
        """Whether this is the file that the benchmark released."""
        return self.sha256 == SHA256

    def fill(self, group: str, sessions: Sessions) -> Sessions:
        """The same sessions with all that the targets say: spikes of evaluation trials, behaviour, conditions.

        Args:
            group: name of the set in the file.
            sessions: training and evaluation trials, whose held-out units may be unrecorded.

        Raises:
            DataError: the file lacks the set or a key, or holds other trials, bins or units.
        """
        try:
            with h5py.File(self.path, "r") as file:
                if group not in file:
                    raise DataError(f"{self.path} has no targets of {group}; it holds {', '.join(file) or 'nothing'}")
                return _Filling(file[group], f"{group} of {self.path}").fill(sessions)
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {' '.join(str(error).split())}; get it again") from error


class _Filling:
    """The targets of one set."""

    def __init__(self, group: h5py.Group, where: str) -> None:
        self.group, self.where = group, where

    def fill(self, sessions: Sessions) -> Sessions:
        evaluation = self._with_conditions(self._with_spikes(sessions.evaluation))
        if self._found("eval_behavior").ndim == 2:
            return Sessions(sessions.train, self._with_intervals(evaluation))
        return Sessions(self._with_behavior("train", sessions.train), self._with_behavior("eval", evaluation))

    def _with_spikes(self, session: SessionTensors) -> SessionTensors:
        """Held-out units of the observed bins, and all units of the forward bins."""
        n, bins, forward, heldin = len(session), session.n_observed, session.n_forward, session.n_heldin
        heldout = session.n_units - heldin
        spikes, observed = session.spikes.clone(), session.observed.clone()
        places = [("eval_spikes_heldout", slice(0, bins), bins, 1, slice(heldin, None), heldout)]
        if forward:
            places += [
                ("eval_spikes_heldin_forward", slice(bins, None), forward, 0, slice(0, heldin), heldin),
                ("eval_spikes_heldout_forward", slice(bins, None), forward, 1, slice(heldin, None), heldout),
            ]
        for key, when, n_bins, side, units, n_units in places:
            counts = self._read(key, (n, n_bins, n_units))
            known = ~counts.isnan().any(2)
            whole = counts.nan_to_num()
            if (whole != whole.round()).any() or (whole < 0).any() or (whole > torch.iinfo(spikes.dtype).max).any():
                raise DataError(f"{key} in {self.where} holds no spike counts; get that file again")
            spikes[:, when, units] = whole.to(spikes.dtype) * known[..., None]
            observed[:, when, side] = known
        return replace(session, spikes=spikes, observed=observed)

    def _with_behavior(self, part: str, session: SessionTensors) -> SessionTensors:
        """Lagged behaviour over time, and the decoders that trials belong to."""
        bins, channels = session.n_observed, session.n_series
        behavior, mask = session.behavior.clone(), session.decode_mask
        behavior[:, :bins, :channels] = self._read(f"{part}_behavior", (len(session), bins, channels)).float()
        if f"{part}_decode_mask" in self.group:
            mask = self._read(f"{part}_decode_mask", tuple(mask.shape)).bool()
        return replace(session, behavior=behavior, decode_mask=mask)

    def _with_intervals(self, session: SessionTensors) -> SessionTensors:
        """Produced intervals, the conditions in which they are compared, and the bins between their two events."""
        values = self._read("eval_behavior", (len(session), INTERVAL + 1))
        group = torch.full((len(session),), -1)
        known = values[:, [*CONDITION, INTERVAL]].isfinite().all(1)
        group[known] = values[known][:, CONDITION].unique(dim=0, return_inverse=True)[1]
        produced = values[:, INTERVAL].masked_fill(~known, torch.nan)
        # Whatever is not between the events has no targets.
        scored = session.observed[:, : session.n_observed, 1]
        return replace(session, group=group, produced=produced, scored=scored)

    def _with_conditions(self, session: SessionTensors) -> SessionTensors:
        """Responses to conditions, and the condition of each trial."""
        if "psth" not in self.group:
            return session
        index = self._found("eval_cond_idx")[()]
        psth = self._read("psth", (len(index), session.n_observed, session.n_units))
        condition = torch.full((len(session),), -1)
        for row, trials in enumerate(index):
            trials = torch.from_numpy(np.asarray(trials, dtype=np.int64))
            if len(trials) and not 0 <= int(trials.min()) <= int(trials.max()) < len(session):
                raise DataError(f"eval_cond_idx in {self.where} names trials beyond {len(session)}; it is another set")
            condition[trials] = row
        jitter = session.jitter
        if "eval_jitter" in self.group:
            jitter = self._read("eval_jitter", (len(session),)).long()
        return replace(session, psth=psth, condition=condition, jitter=jitter)

    def _found(self, key: str) -> h5py.Dataset:
        if key not in self.group:
            raise DataError(f"{self.where} lacks {key}; get the {FILE} of nlb_tools")
        return self.group[key]

    def _read(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """A float64 tensor of that shape."""
        array = self._found(key)
        if array.shape != shape:
            raise DataError(
                f"{key} in {self.where} has shape {array.shape}, but the runs' session asks for {shape}; use targets "
                "of the same recording and bin width, and runs of all its trials"
            )
        return torch.from_numpy(array[()].astype(np.float64))


def _by_hand(digest: str) -> str:
    return f"get {FILE} from nlb_tools by hand (sha256 {digest[:12]}) and give its path to --test_targets"
