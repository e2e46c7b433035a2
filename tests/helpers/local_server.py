"""Base classes of fake servers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar


class LocalServer(ThreadingHTTPServer):
    """HTTP server on a free port of this machine.

    Args:
        answer: handler of requests.
        root: prefix of the paths.
    """

    daemon_threads = True

    def __init__(self, answer: type["LocalAnswer"], root: str = "") -> None:
        super().__init__(("127.0.0.1", 0), answer)
        self.url = f"http://127.0.0.1:{self.server_port}{root}"

    def handle_error(self, *_: object) -> None:
        """Ignores interrupted connections, which tests cause."""


class LocalAnswer(BaseHTTPRequestHandler):
    """Handler of requests without a log."""

    def log_message(self, *_: object) -> None:
        pass

    def start(self, status: int, length: int, **headers: str) -> None:
        """Sends status and headers."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


Served = TypeVar("Served", bound=LocalServer)


@contextmanager
def serving(server: Served) -> Iterator[Served]:
    """Runs a server in a thread."""
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
