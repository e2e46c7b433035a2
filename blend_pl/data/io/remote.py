"""Recordings at an address, of which only the parts that are read are transferred."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from blend_pl.data.io.download import TIMEOUT_S, translate_download_errors
from blend_pl.errors import DataError

_MANUAL_HINT = "download the file and name its path"


@dataclass(frozen=True)
class RemoteFile:
    """An HDF5 file at an address.

    Attributes:
        url: the address, of a server that answers requests for a range of bytes.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def digest(self) -> str:
        """Returns a digest of the address and of what the server says about the version of the file.

        Raises:
            DataError: the server cannot be reached, has no such file, or does not serve parts of files.
        """
        import requests

        with translate_download_errors(self.url, self.url, _MANUAL_HINT):
            response = requests.get(self.url, headers={"Range": "bytes=0-0"}, stream=True, timeout=TIMEOUT_S)
            response.raise_for_status()
            response.close()
        if response.status_code != requests.codes.partial_content:
            raise DataError(f"the server of {self.url} does not answer requests for a range of bytes; {_MANUAL_HINT}")
        version = [response.headers.get(name, "") for name in ("ETag", "Last-Modified", "Content-Range")]
        return hashlib.sha256("\n".join([self.url, *version]).encode()).hexdigest()

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Opens the file for reading by remfile.

        Raises:
            DataError: remfile is not installed, the server cannot be reached or has no such file.
        """
        try:
            import remfile
        except ModuleNotFoundError as error:
            raise DataError(
                f"{self.url} is read by remfile, which is not installed; run pip install remfile, or {_MANUAL_HINT}"
            ) from error
        self.digest()
        with translate_download_errors(self.url, self.url, _MANUAL_HINT):
            file = remfile.File(self.url)
            try:
                yield cast(BinaryIO, file)
            finally:
                file.close()
