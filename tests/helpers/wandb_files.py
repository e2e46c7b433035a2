"""Reader of the .wandb file of an offline W&B run."""

import struct
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK_SIZE, HEADER_SIZE = 32768, 7
FULL_CHUNK, LAST_CHUNK = 1, 4
"""Types of the chunks that complete a record."""


def records(file: Path) -> list[Any]:
    """Returns the records of a .wandb file: a header of 7 bytes, then a log in LevelDB's format."""
    content = file.read_bytes()
    log_records, payload, position = [], b"", HEADER_SIZE
    while position + HEADER_SIZE <= len(content):
        n_left_in_block = BLOCK_SIZE - position % BLOCK_SIZE
        if n_left_in_block < HEADER_SIZE:
            position += n_left_in_block
            continue
        start = position + HEADER_SIZE
        _, length, kind = struct.unpack("<IHB", content[position:start])
        payload += content[start : start + length]
        position = start + length
        if kind in (FULL_CHUNK, LAST_CHUNK):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(payload)
            log_records.append(record)
            payload = b""
    return log_records


def of_kind(file: Path, kind: str) -> list[Any]:
    """Returns the records of one kind, such as `run`, `history` or `artifact`."""
    return [getattr(record, kind) for record in records(file) if record.WhichOneof("record_type") == kind]
