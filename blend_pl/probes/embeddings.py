"""File of cell embeddings and cell types in a run's folder."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from blend_pl.compat import RENAMED_EMBEDDING_FIELDS
from blend_pl.errors import DataError
from blend_pl.utils.files import atomic_file

EMBEDDINGS_FILE = "embeddings.h5"


@dataclass(frozen=True)
class CellEmbeddings:
    """Fitted embeddings of C cells.

    Attributes:
        vectors: (C, size) float32.
        loss: (C,) reconstruction loss in validation time; NaN for cells without recorded entries.
        cell: (C,) str ids of the cells.
        split: (C,) str, train, val or test.
        label: (C,) str transcriptomic labels.
        ei: (C,) str, excitatory or inhibitory; "" where unknown.
        subclass: (C,) str inhibitory subclasses; "" for cells without one.
    """

    vectors: np.ndarray
    loss: np.ndarray
    cell: np.ndarray
    split: np.ndarray
    label: np.ndarray
    ei: np.ndarray
    subclass: np.ndarray

    def write(self, run_dir: Path) -> None:
        """Writes the embeddings into a run's folder.

        Raises:
            DataError: the folder cannot be written.
        """
        with atomic_file(run_dir / EMBEDDINGS_FILE) as path, h5py.File(path, "w") as file:
            for name, values in vars(self).items():
                file[name] = values.astype(h5py.string_dtype()) if values.dtype.kind == "U" else values

    @classmethod
    def read(cls, run_dir: Path) -> "CellEmbeddings":
        """Reads the embeddings of a finished run.

        Raises:
            DataError: the file is missing or damaged.
        """
        path = run_dir / EMBEDDINGS_FILE
        try:
            with h5py.File(path) as file:
                return cls(
                    **{
                        RENAMED_EMBEDDING_FIELDS.get(name, name): dataset.asstr()[()].astype(str)
                        if h5py.check_string_dtype(dataset.dtype)
                        else dataset[()]
                        for name, dataset in file.items()
                    }
                )
        except FileNotFoundError:
            raise DataError(f"{run_dir} has no {EMBEDDINGS_FILE}: the run has not finished; run it again") from None
        except (OSError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"cannot read {path} ({reason}): it is damaged; run the experiment again") from error
