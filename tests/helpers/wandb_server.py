"""A local server with the part of W&B's API that downloads one artifact."""

import base64
import gzip
import hashlib
import json
from typing import Any

from helpers.local_server import LocalAnswer, LocalServer

PROJECT = {"__typename": "Project", "id": "p", "internalId": "i", "name": "proj", "entity": {"name": "lab"}}
COLLECTION = {"__typename": "ArtifactSequence", "id": "s", "name": "teacher", "project": PROJECT}
CREATED = "2026-01-01T00:00:00"


class Server(LocalServer):
    """Serves the artifact lab/proj/teacher.

    Attributes:
        files: content of the artifact's files.
        version: version of the artifact.
        requests: names of the queries and paths of the files requested so far.
        corrupt: whether files are sent damaged.
        missing: whether requests for files get status 404.
        has_valid_key: whether the API key is valid.
    """

    def __init__(self) -> None:
        super().__init__(Handler)
        self.files: dict[str, bytes] = {"best.ckpt": b"weights", "config.yaml": b"name: x"}
        self.version = 3
        self.requests: list[str] = []
        self.corrupt, self.missing, self.has_valid_key = False, False, True

    def artifact(self) -> dict[str, Any]:
        null_fields = ("description", "updatedAt", "historyStep")
        return {
            **dict.fromkeys(null_fields),
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "__typename": "Artifact",
            "id": "QXJ0",
            "artifactSequence": COLLECTION,
            "versionIndex": self.version,
            "artifactType": {"name": "model"},
            "metadata": "{}",
            "tags": [],
            "state": "COMMITTED",
            "size": 9,
            "digest": f"digest{self.version}",
            "commitHash": "c",
            "fileCount": 2,
            "createdAt": CREATED,
        }

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "currentManifest" in query:
            return {"artifact": {"currentManifest": {"file": {"directUrl": f"{self.url}/manifest"}}}}
        if "artifactCollectionMembership" in query:
            membership = {
                "__typename": "ArtifactCollectionMembership",
                "id": "m",
                "versionIndex": self.version,
                "createdAt": CREATED,
                "aliases": [],
                "artifactCollection": COLLECTION,
                "artifact": self.artifact(),
            }
            name, _, alias = variables["name"].partition(":")
            exists = name == "teacher" and alias in ("latest", f"v{self.version}")
            return {"project": {**PROJECT, "artifactCollectionMembership": membership if exists else None}}
        if "viewer" in query:
            viewer = {"id": "x", "username": "me", "entity": "lab", "email": "", "flags": "{}", "teams": {"edges": []}}
            return {"viewer": viewer if self.has_valid_key else None}
        return {"serverInfo": {"features": []}}

    def manifest(self) -> dict[str, Any]:
        contents = {
            name: {
                "digest": base64.b64encode(hashlib.md5(content).digest()).decode(),
                "size": len(content),
                "birthArtifactID": "QXJ0",
            }
            for name, content in self.files.items()
        }
        policy = {"storagePolicy": "wandb-storage-policy-v1", "storagePolicyConfig": {"storageLayout": "V2"}}
        return {"version": 1, **policy, "contents": contents}


class Handler(LocalAnswer):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path != "/graphql":
            self._send(b"{}")
            return
        request = json.loads(body)
        self.server.requests.append(request["query"].split("(")[0].split("{")[0].strip())
        self._send(json.dumps({"data": self.server.answer(request["query"], request.get("variables") or {})}).encode())

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.path == "/manifest":
            self._send(json.dumps(self.server.manifest()).encode())
            return
        if self.server.missing:
            self._send(b"", status=404)
            return
        content = self.server.files[self.path.split("/")[-1]]
        self._send(content[::-1] if self.server.corrupt else content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, content: bytes, status: int = 200) -> None:
        self.start(status, len(content))
        self.wfile.write(content)
