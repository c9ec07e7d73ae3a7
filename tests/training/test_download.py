"""A data set comes whole or not at all, from a server that cuts, changes, lies or is not there. All on 127.0.0.1."""

import contextlib
import io
import json
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from serving.errors import DataError, UsageError
from training.data import fetch, unpack
from training.data.clips import FSC22_META, load_clips
from training.data.download import SOURCES, Source, download, main
from training.data.fetch import ATTEMPTS, open_part

NOISE = random.Random(0)
CLIPS = {f"{fold}-{fold}-A-{target}.wav": NOISE.randbytes(150_000) for fold, target in ((1, 0), (2, 10), (3, 2))}
ESC50_CSV = b"""filename,fold,target,category,esc10,src_file,take
1-1-A-0.wav,1,0,dog,True,1,A
2-2-A-10.wav,2,10,rain,True,2,A
3-3-A-2.wav,3,2,pig,False,3,A
"""
ESC50 = {"meta/esc50.csv": ESC50_CSV, "LICENSE": b"", **{f"audio/{name}": wave for name, wave in CLIPS.items()}}
FSC22_CSV = b"""Source File Name,Dataset File Name,Class ID,Class Name
17548__A.wav,1_10101.wav,1,Fire
34065.wav,2_10201.wav,2,Rain
"""
FSC22 = {FSC22_META: FSC22_CSV, "Audios/1_10101.wav": b"fire", "Audios/2_10201.wav": b"rain"}


def packed(files: dict[str, bytes], folder: str = "ESC-50-master") -> bytes:
    """A zip archive as GitHub makes them: one folder, and an entry for it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}/", b"")
        for name, content in files.items():
            archive.writestr(f"{folder}/{name}", content)
    return stream.getvalue()


@dataclass
class Site:
    """What the server has and how it misbehaves, and the headers of the requests that it got."""

    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    sized: bool = True  # else chunked, as GitHub's
    ranges: bool = True
    if_range: bool = True
    cuts: list[int] = field(default_factory=list)  # for each request, bytes sent before the connection is cut
    reset: bool = False  # cut with a reset
    statuses: list[int] = field(default_factory=list)  # answered before anything else
    shift: int = 0  # added to the start of every range
    pause: tuple[int, float] | None = None  # after so many bytes, so many seconds
    requests: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/archive/master.zip"

    def source(self, dataset: str = "ESC-50", clips: int = 3) -> Source:
        return replace(SOURCES[dataset], url=self.url, clips=clips)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        site = self.site
        if self.path.startswith("/archive/"):  # as github.com sends on to codeload.github.com
            self.answer(302, {"Location": "/zip", "Content-Length": "0"})
            return
        site.requests.append(dict(self.headers))
        if site.statuses:
            self.answer(site.statuses.pop(0), {"Content-Length": "0"})
            return
        wanted = self.headers.get("Range") if site.ranges else None
        version = site.headers.get("ETag"), site.headers.get("Last-Modified")
        if site.if_range and self.headers.get("If-Range") not in version:
            wanted = None
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) + site.shift if wanted else 0
        size = len(site.body)
        if wanted and start >= size:
            self.answer(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        length = {"Content-Length": str(size - start)} if site.sized else {"Transfer-Encoding": "chunked"}
        content_range = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if wanted else {}
        self.answer(206 if wanted else 200, site.headers | length | content_range)
        self.send(site.body[start:], site.cuts.pop(0) if site.cuts else None)

    def answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, body: bytes, cut: int | None) -> None:
        step = 10_000
        for start in range(0, len(body), step):
            piece = body[start : start + step]
            if cut is not None and start >= cut:
                if self.site.reset:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                return
            if self.site.pause and start >= self.site.pause[0]:
                pause_s, self.site.pause = self.site.pause[1], None
                time.sleep(pause_s)
            self.wfile.write(piece if self.site.sized else b"%x\r\n%s\r\n" % (len(piece), piece))
        if not self.site.sized:
            self.wfile.write(b"0\r\n\r\n")


@pytest.fixture
def serve(monkeypatch) -> Iterator[Callable[..., Site]]:
    """serve(body, ...) starts a server with that archive."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.01)
    servers = []

    def start(body: bytes | None = None, **faults) -> Site:
        site = Site(packed(ESC50) if body is None else body, **faults)
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": site}))
        server.handle_error = lambda request, client_address: None  # a client that hangs up is no news here
        site.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return site

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def data_dir(tmp_path) -> Path:
    return tmp_path / "data" / "ESC-50"


def part_of(data_dir: Path) -> Path:
    return data_dir.with_name(f"{data_dir.name}.zip.part")


def is_whole(data_dir: Path) -> bool:
    """The recordings are the archive's, byte for byte, and nothing else is left beside the folder."""
    same = all((data_dir / "audio" / name).read_bytes() == wave for name, wave in CLIPS.items())
    return same and [path.name for path in data_dir.parent.iterdir()] == [data_dir.name]


def fails(site: Site, data_dir: Path, *parts: str) -> str:
    """The one line that a download fails with; it has these parts, and no data set appears."""
    with pytest.raises(DataError) as caught:
        download("ESC-50", data_dir, site.source())
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert not data_dir.exists()
    assert not data_dir.with_name(f".{data_dir.name}.unpacking").exists()
    return message


def interrupted(serve, data_dir: Path, monkeypatch, **faults) -> tuple[Site, int]:
    """A site, and how many bytes a first call kept of its archive before the connection was cut."""
    site = serve(cuts=[200_000], **faults)
    with monkeypatch.context() as once:
        once.setattr(fetch, "ATTEMPTS", 1)
        fails(site, data_dir)
    kept = part_of(data_dir).stat().st_size
    assert 0 < kept <= 200_000
    assert part_of(data_dir).read_bytes() == site.body[:kept]
    return site, kept


# ---- what works


@pytest.mark.parametrize("sized", [True, False])
def test_an_archive_is_fetched_unpacked_and_removed(serve, data_dir, capsys, sized):
    site = serve(sized=sized)
    assert download("ESC-50", data_dir, site.source()) == data_dir
    assert is_whole(data_dir)
    assert len(load_clips("ESC-50", data_dir).clips) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert site.requests[0]["Accept-Encoding"] == "identity"
    assert "CC BY-NC" in err
    assert site.url in err.replace("\n", "")


@pytest.mark.parametrize(("dataset", "files"), [("ESC-50", ESC50), ("ESC-10", ESC50), ("FSC22", FSC22)])
def test_every_data_set_is_read_from_the_folder_and_the_layout_of_its_archive(serve, tmp_path, dataset, files):
    site = serve(packed(files, SOURCES[dataset].folder))
    folder = download(dataset, tmp_path / dataset, site.source(dataset, clips=2))
    assert load_clips(dataset, folder).clips
    assert all((folder / name).exists() for name in SOURCES[dataset].layout)


def test_the_sources_are_the_authors_archives():
    for source in SOURCES.values():
        repository, branch = source.url.split("/archive/refs/heads/")
        assert repository in ("https://github.com/karolpiczak/ESC-50", "https://github.com/IRMIOT/FSC22")
        assert source.folder == f"{repository.rsplit('/')[-1]}-{branch.removesuffix('.zip')}"


def test_a_data_set_that_is_there_is_not_fetched(serve, data_dir, capsys):
    site = serve()
    download("ESC-50", data_dir, site.source())
    assert len(site.requests) == 1
    download("ESC-50", data_dir, site.source())
    assert len(site.requests) == 1
    assert "there already" in capsys.readouterr().err


def test_an_empty_folder_is_filled(serve, data_dir):
    data_dir.mkdir(parents=True)
    download("ESC-50", data_dir, serve().source())
    assert is_whole(data_dir)


def test_a_link_to_another_disk_is_followed(serve, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "ESC-50")
    download("ESC-50", tmp_path / "link", serve().source())
    assert (tmp_path / "link").is_symlink()
    assert is_whole(tmp_path / "disk" / "ESC-50")


def test_other_numbers_of_clips_than_known_are_told(serve, data_dir, capsys):
    download("ESC-50", data_dir, serve().source(clips=2000))
    assert "3 clips, where 2000" in " ".join(capsys.readouterr().err.split())


def test_two_downloads_at_once_fetch_one_archive(serve, data_dir):
    site = serve(pause=(100_000, 0.3))
    both = [threading.Thread(target=download, args=("ESC-50", data_dir, site.source())) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(20)
    assert is_whole(data_dir)
    assert len(site.requests) == 1


def test_who_waited_for_a_download_that_brought_nothing_writes_a_file_of_his_own(tmp_path):
    path, seen = tmp_path / "ESC-50.zip.part", []

    def wait_for_it() -> None:
        with open_part(path) as second:
            second.file.write(b"mine")
            second.file.flush()
            seen.append(path.read_bytes())

    with open_part(path):
        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        waiting.join(0.2)
        assert seen == []
    waiting.join(10)
    assert seen == [b"mine"]


# ---- going on after a cut


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("sized", [False, True])
def test_a_second_call_fetches_only_the_rest(serve, data_dir, monkeypatch, sized, reset):
    site, kept = interrupted(serve, data_dir, monkeypatch, sized=sized, reset=reset)
    download("ESC-50", data_dir, site.source())
    assert site.requests[-1]["Range"] == f"bytes={kept}-"
    assert site.requests[-1]["If-Range"] == '"one"'
    assert is_whole(data_dir)


def test_a_cut_connection_is_taken_up_again_within_the_call(serve, data_dir):
    site = serve(cuts=[100_000, 150_000])
    download("ESC-50", data_dir, site.source())
    starts = [int(request["Range"][len("bytes=") : -1]) for request in site.requests[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1] < len(site.body)
    assert is_whole(data_dir)


def test_a_connection_that_is_cut_every_time_ends_with_what_came_kept(serve, data_dir):
    site = serve(cuts=[50_000] * ATTEMPTS)
    fails(site, data_dir, "are kept", "try again")
    assert len(site.requests) == ATTEMPTS
    assert part_of(data_dir).read_bytes() == site.body[: part_of(data_dir).stat().st_size]


def test_a_server_that_falls_silent_is_asked_again(serve, data_dir, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", httpx.Timeout(0.1))
    site = serve(pause=(100_000, 0.5))
    download("ESC-50", data_dir, site.source())
    assert len(site.requests) == 2
    assert is_whole(data_dir)


def test_a_server_without_ranges_starts_over(serve, data_dir, monkeypatch):
    site, _ = interrupted(serve, data_dir, monkeypatch, ranges=False)
    download("ESC-50", data_dir, site.source())
    assert "Range" in site.requests[-1]
    assert is_whole(data_dir)


@pytest.mark.parametrize("if_range", [True, False])
def test_a_changed_archive_starts_over(serve, data_dir, monkeypatch, if_range):
    site, _ = interrupted(serve, data_dir, monkeypatch)
    site.if_range, site.headers = if_range, {"ETag": '"two"'}
    site.body = packed(dict(reversed(ESC50.items())))
    download("ESC-50", data_dir, site.source())
    assert is_whole(data_dir)


def test_the_date_of_change_stands_in_for_a_weak_etag(serve, data_dir, monkeypatch):
    date = "Wed, 13 Dec 2017 10:00:00 GMT"
    site, kept = interrupted(serve, data_dir, monkeypatch, headers={"ETag": 'W/"one"', "Last-Modified": date})
    download("ESC-50", data_dir, site.source())
    assert site.requests[-1]["If-Range"] == date
    assert site.requests[-1]["Range"] == f"bytes={kept}-"
    assert is_whole(data_dir)


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"one"'}])
def test_a_server_that_proves_nothing_starts_over(serve, data_dir, monkeypatch, headers):
    site, _ = interrupted(serve, data_dir, monkeypatch, headers=headers)
    download("ESC-50", data_dir, site.source())
    assert "Range" not in site.requests[-1]
    assert is_whole(data_dir)


def test_another_range_than_asked_for_starts_over(serve, data_dir, monkeypatch):
    site, _ = interrupted(serve, data_dir, monkeypatch)
    site.shift = 7
    download("ESC-50", data_dir, site.source())
    assert ["Range" in request for request in site.requests] == [False, True, False]
    assert is_whole(data_dir)


def test_a_partial_file_of_another_address_starts_over(serve, data_dir, monkeypatch):
    interrupted(serve, data_dir, monkeypatch)
    other = serve()
    download("ESC-50", data_dir, other.source())
    assert "Range" not in other.requests[0]
    assert is_whole(data_dir)


@pytest.mark.parametrize("notes", [b"", b"{", b"[1]", b"\xff"])
def test_a_partial_file_with_spoilt_notes_starts_over(serve, data_dir, monkeypatch, notes):
    site, _ = interrupted(serve, data_dir, monkeypatch)
    part_of(data_dir).with_name("ESC-50.zip.part.json").write_bytes(notes)
    download("ESC-50", data_dir, site.source())
    assert is_whole(data_dir)


def test_a_partial_file_that_lacks_only_its_last_note_is_whole(serve, data_dir, monkeypatch):
    site, kept = interrupted(serve, data_dir, monkeypatch)
    with part_of(data_dir).open("ab") as file:
        file.write(site.body[kept:])
    download("ESC-50", data_dir, site.source())
    assert site.requests[-1]["Range"] == f"bytes={len(site.body)}-"
    assert len(site.requests) == 2
    assert is_whole(data_dir)


def test_a_partial_file_longer_than_the_archive_starts_over(serve, data_dir, monkeypatch):
    site, _ = interrupted(serve, data_dir, monkeypatch)
    with part_of(data_dir).open("ab") as file:
        file.write(bytes(len(site.body)))
    download("ESC-50", data_dir, site.source())
    assert is_whole(data_dir)


# ---- servers that refuse


def test_a_server_in_trouble_is_asked_again(serve, data_dir):
    site = serve(statuses=[503, 429])
    download("ESC-50", data_dir, site.source())
    assert len(site.requests) == 3
    assert is_whole(data_dir)


@pytest.mark.parametrize(("status", "requests"), [(500, ATTEMPTS), (404, 1), (403, 1)])
def test_a_refusal_is_one_line_with_the_address_and_the_way_by_hand(serve, data_dir, status, requests):
    site = serve(statuses=[status] * ATTEMPTS)
    fails(site, data_dir, str(status), site.url, f"{data_dir}/meta/esc50.csv", f"{data_dir}/audio")
    assert len(site.requests) == requests
    assert list(data_dir.parent.iterdir()) == []


def test_no_server_is_one_line_with_the_address_and_the_way_by_hand(serve, data_dir):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        site = Site(b"", port=unused.getsockname()[1])
        fails(site, data_dir, site.url, "by hand", "ESC-50-master", f"{data_dir}/meta/esc50.csv", f"{data_dir}/audio")
    assert list(data_dir.parent.iterdir()) == []


def test_an_endless_archive_is_given_up(serve, data_dir, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_BYTES", 200_000)
    monkeypatch.setattr(fetch, "MAX_BYTES", 200_000)
    site = serve(sized=False)
    fails(site, data_dir, "larger than")
    assert len(site.requests) == 1
    assert not part_of(data_dir).exists()


# ---- archives that cannot be used


def flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


@pytest.mark.parametrize(
    "body",
    [flipped(packed(ESC50)), packed(ESC50)[:-1000], b"<html>log in to the hotel's network</html>", b""],
    ids=["one bit flipped", "its end is missing", "a web page", "nothing"],
)
def test_a_corrupt_archive_is_removed(serve, data_dir, body):
    fails(serve(body), data_dir, "it has been removed", "by hand")
    assert list(data_dir.parent.iterdir()) == []


def with_entry(name: str, mode: int = stat.S_IFREG | 0o644, content: bytes = b"x") -> bytes:
    stream = io.BytesIO(packed(ESC50))
    with zipfile.ZipFile(stream, "a") as archive:
        entry = zipfile.ZipInfo("placeholder")
        entry.filename, entry.external_attr = name, mode << 16
        archive.writestr(entry, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (with_entry("ESC-50-master/../../escaped"), "leads out"),
        (with_entry("../escaped"), "leads out"),
        (with_entry("/tmp/unheard-escaped"), "absolute"),
        (with_entry("ESC-50-master/..\\escaped"), "backslash"),
        (with_entry("C:/escaped"), "drive letter"),
        (with_entry("ESC-50-master/c:escaped"), "drive letter"),
        (with_entry("ESC-50-master/escaped", stat.S_IFLNK | 0o777, b"/etc/passwd"), "link"),
        (with_entry("ESC-50-master/escaped", stat.S_IFIFO | 0o666, b""), "device"),
    ],
)
def test_an_unsafe_archive_is_refused_whole(serve, data_dir, body, reason):
    fails(serve(body), data_dir, reason)
    assert list(data_dir.parent.iterdir()) == []
    assert not list(data_dir.parent.parent.rglob("*escaped*"))
    assert not Path("/tmp/unheard-escaped").exists()


def test_names_that_differ_in_case_are_let_in(serve, data_dir):
    download("ESC-50", data_dir, serve(packed(ESC50 | {"license": b"lower"})).source())
    assert (data_dir / "license").read_bytes() == b"lower"


def test_an_archive_that_would_unpack_to_hundreds_of_times_its_size_is_refused(serve, data_dir):
    fails(serve(packed({"meta/esc50.csv": ESC50_CSV, "zeros": bytes(50_000_000)})), data_dir, "unpack to 50 MB", "200")
    assert list(data_dir.parent.iterdir()) == []


def test_an_archive_that_would_unpack_to_too_much_is_refused(serve, data_dir, monkeypatch):
    body = packed(ESC50 | {"zeros": bytes(1_000_000)})
    monkeypatch.setattr(unpack, "MAX_BYTES", len(body) + 1000)
    monkeypatch.setattr(fetch, "MAX_BYTES", len(body) + 1000)
    fails(serve(body), data_dir, "would unpack to")


@pytest.mark.parametrize("missing", ["meta/esc50.csv", "audio/2-2-A-10.wav"])
def test_an_archive_without_one_of_its_files_names_it(serve, data_dir, missing):
    body = packed({name: content for name, content in ESC50.items() if name != missing})
    message = fails(serve(body), data_dir, f"ESC-50-master/{missing} is missing".replace("csv is", "csv: is"))
    assert ".unpacking" not in message
    assert list(data_dir.parent.iterdir()) == []


def test_an_archive_of_another_folder_is_refused(serve, data_dir):
    fails(serve(packed(ESC50, "ESC-50-main")), data_dir, "no folder ESC-50-master")


# ---- the disk


@pytest.mark.parametrize("what", ["file", "folder"])
def test_something_else_in_the_data_sets_place_stays_untouched(serve, data_dir, what):
    mine = data_dir / "mine.txt" if what == "folder" else data_dir
    mine.parent.mkdir(parents=True)
    mine.write_text("keep me")
    site = serve()
    with pytest.raises(DataError, match=r"no whole ESC-50.*move it away"):
        download("ESC-50", data_dir, site.source())
    assert mine.read_text() == "keep me"
    assert site.requests == []


def test_a_folder_that_cannot_be_written_is_one_line(serve, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*cannot be written.*--data-dir"):
        download("ESC-50", tmp_path / "file" / "ESC-50", serve().source())


def in_another_process(data_dir: Path, site: Site, before: str) -> subprocess.Popen:
    program = f"""
import resource, time
import training.data.download as module
from training.data.download import Source
{before}
try:
    module.download("ESC-50", module.Path({str(data_dir)!r}), {site.source()!r})
except module.DataError as error:
    raise SystemExit(str(error))
"""
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("limit", [100_000, 140_000], ids=["while fetching", "while unpacking"])
def test_a_full_disk_is_one_line_and_what_came_is_kept(serve, data_dir, limit):
    # A limit on the size of one file stands in for the full disk. Of 150 kB of zeros only a little is fetched.
    zeros = ESC50 | {"audio/1-1-A-0.wav": bytes(150_000)}
    for name in ("audio/2-2-A-10.wav", "audio/3-3-A-2.wav"):
        zeros[name] = CLIPS[name.removeprefix("audio/")][: 10_000 if limit == 140_000 else None]
    site = serve(packed(zeros))

    process = in_another_process(data_dir, site, f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))")
    line = process.communicate(timeout=30)[1].strip().splitlines()[-1]
    assert "cannot be written (File too large)" in line
    assert "make room" in line
    assert not data_dir.exists()
    download("ESC-50", data_dir, site.source())
    assert (data_dir / "audio" / "1-1-A-0.wav").read_bytes() == bytes(150_000)
    if limit == 140_000:
        assert len(site.requests) == 1  # the archive had come whole
    else:
        assert "Range" in site.requests[-1]


def killed_when(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_download_killed_in_the_middle_goes_on(serve, data_dir):
    site = serve(pause=(200_000, 20.0))

    def has_begun() -> bool:
        assert not data_dir.exists()
        with contextlib.suppress(FileNotFoundError):
            return part_of(data_dir).stat().st_size >= 150_000
        return False

    killed_when(has_begun, in_another_process(data_dir, site, ""))
    assert not data_dir.exists()
    kept = part_of(data_dir).stat().st_size
    download("ESC-50", data_dir, site.source())
    assert site.requests[-1]["Range"] == f"bytes={kept}-"
    assert is_whole(data_dir)


def test_an_unpacking_killed_at_its_end_is_done_again_without_the_server(serve, data_dir):
    site = serve()
    unpacked = data_dir.with_name(".ESC-50.unpacking") / "audio" / "3-3-A-2.wav"
    killed_when(unpacked.exists, in_another_process(data_dir, site, "module.load_clips = lambda *_: time.sleep(20)"))
    assert not data_dir.exists()
    (unpacked.parent / "left over").write_text("")
    download("ESC-50", data_dir, site.source())
    assert len(site.requests) == 1
    assert is_whole(data_dir)
    assert not (data_dir / "audio" / "left over").exists()


# ---- the command


def test_the_command_ends_with_its_result_as_json(serve, data_dir, monkeypatch, capsys):
    monkeypatch.setitem(SOURCES, "ESC-50", serve().source())
    assert main(["--dataset", "ESC-50", "--data-dir", str(data_dir)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["clips"], result["classes"], result["data_dir"]) == (3, 3, str(data_dir))
    assert result["license"] == "CC BY-NC 3.0"


def test_the_command_without_a_server_ends_with_2_and_one_line(serve, data_dir, monkeypatch, capsys):
    site = serve(statuses=[404])
    monkeypatch.setitem(SOURCES, "ESC-50", site.source())
    assert main(["--dataset", "ESC-50", "--data-dir", str(data_dir)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith(f"error: {site.url}: cannot be fetched")


@pytest.mark.parametrize("dataset", ["synthetic", "folder", "ESC-5"])
def test_a_data_set_without_an_archive_lists_those_with_one(dataset, data_dir, capsys):
    with pytest.raises(UsageError, match="ESC-50, ESC-10, FSC22"):
        download(dataset, data_dir)
    assert main(["--dataset", dataset, "--data-dir", str(data_dir)]) == 2
    assert capsys.readouterr().err.startswith(f"error: dataset: got {dataset}")
