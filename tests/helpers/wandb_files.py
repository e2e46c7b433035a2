"""What an offline run of W&B has written down, to be sent later."""

import struct
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK, HEAD = 32768, 7


def records(file: Path) -> list[Any]:
    """The records of a .wandb file: 7 bytes of its own, then a log as LevelDB writes it."""
    content = file.read_bytes()
    found, parts, place = [], b"", HEAD
    while place + HEAD <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEAD:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEAD])
        parts += content[place + HEAD : place + HEAD + length]
        place += HEAD + length
        if kind in (1, 4):  # Whole, or the last part.
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def of_kind(file: Path, kind: str) -> list[Any]:
    """The records of one kind, as `run`, `history` or `artifact`."""
    return [getattr(record, kind) for record in records(file) if record.WhichOneof("record_type") == kind]
