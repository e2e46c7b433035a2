"""Random mutations of the datasets, the attributes and the bytes of an NWB file."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from helpers.small_nwb import edit_file

Mutation = Callable[[np.random.Generator, Path], str]
"""Changes a file and describes the change."""

_DTYPES = ("u1", "u2", "i1", "i4", "i8", "u8", "f2", "f4", "f8", "?", "S8", "text", "compound", "c16")


def flip_bytes(rng: np.random.Generator, path: Path) -> str:
    """Flips a bit in 1 to 16 bytes."""
    content = bytearray(path.read_bytes())
    positions = rng.integers(0, len(content), rng.choice([1, 4, 16]))
    for position in positions:
        content[position] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)
    return f"bits flipped in {positions.tolist()}"


def truncate(rng: np.random.Generator, path: Path) -> str:
    """Keeps the first part of the file."""
    content = path.read_bytes()
    size = int(rng.integers(0, len(content)))
    path.write_bytes(content[:size])
    return f"truncated to {size} bytes"


def change_dtype(rng: np.random.Generator, path: Path) -> str:
    """Stores a numeric dataset in another type."""
    dtype = str(rng.choice(_DTYPES))

    def change(values: np.ndarray) -> np.ndarray:
        if dtype == "text":
            return np.vectorize(str, otypes=[object])(values).astype(h5py.string_dtype())
        if dtype == "compound":
            return np.stack([values, values], axis=-1).astype(float).view([("a", float), ("b", float)])[..., 0]
        with np.errstate(all="ignore"):
            return values.astype(dtype)

    return _change_dataset(rng, path, dtype, change)


def change_shape(rng: np.random.Generator, path: Path) -> str:
    """Reshapes, shortens or lengthens a numeric dataset."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "as a column": lambda values: values[:, None],
        "as a row": lambda values: values[None],
        "doubled columns": lambda values: np.stack([values, values], axis=1),
        "as a scalar": lambda values: values.reshape(-1)[0],
        "empty": lambda values: values[:0],
        "without its last row": lambda values: values[:-1],
        "without its first row": lambda values: values[1:],
        "with its last row twice": lambda values: np.concatenate([values, values[-1:]]),
        "transposed": lambda values: values.T,
        "flat": lambda values: values.reshape(-1),
    }
    name = str(rng.choice(list(changes)))
    return _change_dataset(rng, path, name, changes[name])


def change_order(rng: np.random.Generator, path: Path) -> str:
    """Reorders or rescales the rows of a numeric dataset."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "reversed": lambda values: values[::-1],
        "shuffled": rng.permutation,
        "rotated": lambda values: np.roll(values, max(len(values) // 3, 1), axis=0),
        "negated": lambda values: -values.astype(float) if values.dtype.kind in "biuf" else values,
        "times 1000": lambda values: _widest(values) * 1000,
        "divided by 1000": lambda values: values / 1000,
        "shifted": lambda values: _widest(values) + 1_704_448_800,
    }
    name = str(rng.choice(list(changes)))
    return _change_dataset(rng, path, name, changes[name])


def exchange_datasets(rng: np.random.Generator, path: Path) -> str:
    """Exchanges two numeric datasets."""
    with h5py.File(path) as file:
        first, second = rng.choice(_numeric_datasets(file), 2, replace=False).tolist()

    def edit(file: h5py.File) -> None:
        file.move(first, "exchanged")
        file.move(second, first)
        file.move("exchanged", second)

    edit_file(path, edit)
    return f"{first} and {second} exchanged"


def remove_part(rng: np.random.Generator, path: Path) -> str:
    """Removes an attribute or a dataset."""
    with h5py.File(path) as file:
        names: list[str] = []
        file.visit(names.append)
        attributes = [(name, key) for name in names for key in file[name].attrs]
        datasets = [name for name in names if isinstance(file[name], h5py.Dataset)]
    if rng.random() < 0.5:
        name, key = attributes[int(rng.integers(len(attributes)))]
        edit_file(path, lambda file: file[name].attrs.__delitem__(key))
        return f"attribute {key} of {name} removed"
    name = datasets[int(rng.integers(len(datasets)))]
    edit_file(path, lambda file: file.__delitem__(name))
    return f"{name} removed"


MUTATIONS: tuple[Mutation, ...] = (
    flip_bytes,
    truncate,
    change_dtype,
    change_shape,
    change_order,
    exchange_datasets,
    remove_part,
)


def _widest(values: np.ndarray) -> np.ndarray:
    return values.astype(float if values.dtype.kind == "f" else np.int64)


def _numeric_datasets(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visit(names.append)
    return [name for name in names if isinstance(file[name], h5py.Dataset) and file[name].dtype.kind in "biuf"]


def _change_dataset(
    rng: np.random.Generator, path: Path, description: str, change: Callable[[np.ndarray], np.ndarray]
) -> str:
    with h5py.File(path) as file:
        name = str(rng.choice([name for name in _numeric_datasets(file) if file[name].ndim]))
        values, attributes = file[name][()], dict(file[name].attrs)
    changed = change(values)

    def edit(file: h5py.File) -> None:
        del file[name]
        file[name] = changed
        file[name].attrs.update({key: value for key, value in attributes.items() if key != "target"})
        for index in ("units/spike_times", "units/obs_intervals"):
            if index in file and f"{index}_index" in file:
                file[f"{index}_index"].attrs["target"] = file[index].ref

    edit_file(path, edit)
    return f"{name} {description}"
