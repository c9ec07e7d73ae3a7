"""The archives that data sets come from, and how to fetch one.

Each archive is of one pinned commit. SHA-256 values are of GitHub's zip archive of that commit.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import pooch
import requests
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from serving.command_line import say
from serving.errors import DataError, one_line
from serving.progress import ProgressBars
from training.data.clips import FSC22_META
from training.data.unpack import MAX_BYTES

ATTEMPTS = 4  # requests in one call, the first included
FIRST_WAIT_S = 1.0  # before the second request; doubles with each further one
TIMEOUT_S = (10.0, 60.0)  # to connect; between two reads: GitHub may take a while to start an archive
RETRIED_STATUS = (408, 429)  # and every 5xx

ESC50_COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"
FSC22_COMMIT = "6261396bfb48b3da731f5a74c596f14d554ebe4d"


@dataclass(frozen=True)
class Archive:
    """Where a data set comes from.

    url         a zip archive of one commit
    sha256      of the archive; None where nobody has published one
    holds       what it contains, for people
    license     as its authors state it
    size_bytes  of the archive, approximately: GitHub does not send the size
    clips       known number of clips
    folder      folder inside the archive that becomes the data set's folder
    layout      what that folder must contain, for users who unpack it by hand
    """

    url: str
    sha256: str | None
    holds: str
    license: str
    size_bytes: int
    clips: int
    folder: str
    layout: tuple[str, ...]


_ESC50 = Archive(
    url=f"https://github.com/karolpiczak/ESC-50/archive/{ESC50_COMMIT}.zip",
    # Not published by the authors; several public projects that pin this commit record this value.
    sha256="661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f",
    holds="2000 recordings of 50 kinds of everyday sound",
    license="CC BY-NC 3.0",
    size_bytes=645_832_161,
    clips=2000,
    folder=f"ESC-50-{ESC50_COMMIT}",
    layout=("meta/esc50.csv", "audio"),
)
ARCHIVES: dict[str, Archive] = {
    "ESC-50": _ESC50,
    "ESC-10": replace(
        _ESC50,
        holds="400 recordings of 10 kinds of everyday sound, inside the archive of ESC-50",
        license="CC BY 3.0 (ESC-10's recordings; the rest of the archive is CC BY-NC 3.0)",
        clips=400,
    ),
    "FSC22": Archive(
        url=f"https://github.com/IRMIOT/FSC22/archive/{FSC22_COMMIT}.zip",
        sha256=None,
        holds="2025 recordings of 27 kinds of forest sound",
        license="CC0 1.0, some recordings CC BY (the repository's LICENSE names each)",
        size_bytes=600_000_000,
        clips=2025,
        folder=f"FSC22-{FSC22_COMMIT}",
        layout=(FSC22_META, "Audios"),
    ),
}


def fetch_archive(name: str, archive: Archive, expected: str | None, zipped: Path, advice: str) -> None:
    """Fetch an archive by pooch in at most ATTEMPTS requests; do nothing if `zipped` is there and right.

    name      for the progress bar and messages
    expected  SHA-256; None accepts any
    zipped    the file to write; it appears complete or not at all
    advice    the way out, at the end of an error's line
    errors    DataError: no network, a refusal by the server, a wrong SHA-256, or more than MAX_BYTES
    """
    pooch.get_logger().setLevel("WARNING")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _progress() as progress:
                fetcher = pooch.HTTPDownloader(
                    _ProgressBar(progress, name, archive),  # pyright: ignore[reportArgumentType]
                    chunk_size=1 << 17,
                    timeout=TIMEOUT_S,
                    headers={"Accept-Encoding": "identity"},
                )
                pooch.retrieve(
                    archive.url,
                    expected and f"sha256:{expected}",
                    zipped.name,
                    zipped.parent,
                    downloader=fetcher,  # pyright: ignore[reportArgumentType]
                )
            return
        except requests.RequestException as error:
            reason = _reason(error)
            if attempt == ATTEMPTS or not _may_pass(error):
                raise DataError(f"{archive.url}: cannot be fetched ({reason}); try again, or {advice}") from error
        except ValueError as error:  # pooch: the SHA-256 does not match
            raise DataError(
                f"{archive.url}: the archive's SHA-256 is not the expected {expected}; it has been removed: try again, "
                f"or check the repository and {advice}"
            ) from error
        wait_s = FIRST_WAIT_S * 2 ** (attempt - 1)
        say(f"{name}: {reason}; asking again in {wait_s:g} s (request {attempt + 1} of {ATTEMPTS})")
        time.sleep(wait_s)


def _may_pass(error: requests.RequestException) -> bool:
    """Whether another request may succeed: the connection failed, or the server says that it is in trouble."""
    if error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code in RETRIED_STATUS
    return isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError)


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}".rstrip()
    return one_line(error) or type(error).__name__


class _ProgressBar:
    """What pooch calls while it fetches, shown by rich. It also stops an archive without an end."""

    def __init__(self, progress: Progress, name: str, archive: Archive):
        self.total = 0  # set by pooch from Content-Length; 0 if the server does not send it
        self._progress, self._archive, self._done = progress, archive, 0
        self._task = progress.add_task(name, total=archive.size_bytes)

    def update(self, n_bytes: int) -> None:
        self._done += n_bytes
        if self._done > MAX_BYTES:
            raise DataError(f"{self._archive.url}: the archive is larger than {MAX_BYTES / 1e9:g} GB; fetch it by hand")
        expected = self.total or (self._archive.size_bytes if self._done <= self._archive.size_bytes else None)
        self._progress.update(self._task, completed=self._done, total=expected)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        self._progress.stop_task(self._task)


def _progress() -> Progress:
    """Bytes, speed and time left, on stderr."""
    return ProgressBars(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        unit="bytes",
        transient=False,
    )
