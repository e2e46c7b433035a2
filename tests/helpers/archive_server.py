"""Fake DANDI server."""

import hashlib
import json
import re
import threading
import time

import numpy as np
from helpers.local_server import LocalAnswer, LocalServer

from blend_pl.data.nlb.spec import DandiArchive

MAZE = DandiArchive("000128", "0.220113.0400")
TRAIN = "sub-Jenkins/sub-Jenkins_ses-full_desc-train_behavior+ecephys.nwb"
TEST = "sub-Jenkins/sub-Jenkins_ses-full_desc-test_ecephys.nwb"
CONTENT = {
    TRAIN: np.random.default_rng(0).bytes(3_000_000),
    TEST: np.random.default_rng(1).bytes(10_000),
}


class FakeArchive(LocalServer):
    """The part of the archive's REST interface that its client uses, with optional faults."""

    def __init__(self) -> None:
        super().__init__(Answer, "/api")
        self.content = dict(CONTENT)
        self.digests = {path: hashlib.sha256(content).hexdigest() for path, content in CONTENT.items()}
        self.requests: list[str] = []
        self.blob_offsets: list[int] = []
        self.cut_after: list[int] = []
        self.stall_after: int | None = None
        self.stalled = threading.Event()
        self.slowness_s = 0.0


class Answer(LocalAnswer):
    server: FakeArchive

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append(path)
        version = f"/api/dandisets/{MAZE.dandiset}/versions/{MAZE.version}"
        names = list(self.server.content)
        if path == f"{version}/info/":
            self.json({"version": MAZE.version})
        elif path == f"{version}/assets/":
            self.json({"count": len(names), "next": None, "previous": None, "results": [*map(self.listed, names)]})
        elif match := re.fullmatch(f"{version}/assets/(\\d+)/", path):
            name = names[int(match[1])]
            digest = {"dandi:sha2-256": self.server.digests[name]} if name in self.server.digests else {}
            self.json({"path": name, "digest": digest})
        elif match := re.fullmatch(r"/api/assets/(\d+)/download/", path):
            self.send_response(302)
            self.send_header("Location", f"/blobs/{match[1]}")
            self.end_headers()
        elif match := re.fullmatch(r"/blobs/(\d+)", path):
            self.blob(self.server.content[names[int(match[1])]])
        else:
            self.json({"detail": "Not found."}, 404)

    def listed(self, name: str) -> dict:
        day = "2022-01-13T04:00:00Z"
        number = list(self.server.content).index(name)
        size = len(self.server.content[name])
        asset = {"asset_id": str(number), "blob": str(number), "zarr": None, "path": name, "size": size}
        return asset | {"created": day, "modified": day}

    def json(self, content: dict, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.start(status, len(body), Content_Type="application/json")
        self.wfile.write(body)

    def blob(self, content: bytes) -> None:
        time.sleep(self.server.slowness_s)
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        self.server.blob_offsets.append(start)
        self.start(206 if start else 200, len(content) - start)
        end = start + self.server.cut_after.pop(0) if self.server.cut_after else len(content)
        if self.server.stall_after is not None:
            end = self.server.stall_after
        self.wfile.write(content[start:end])
        if self.server.stall_after is not None:
            self.wfile.flush()
            self.server.stalled.set()
            time.sleep(60)
