"""A data set is downloaded completely or not at all, whatever the server and the disk do. All on 127.0.0.1."""

import hashlib
import io
import json
import random
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

import pytest

from serving.errors import DataError, UsageError
from training.data import archives, unpack
from training.data.archives import ARCHIVES, ATTEMPTS, Archive
from training.data.clips import FSC22_META, load_clips
from training.data.download import download, main

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


FOLDER = ARCHIVES["ESC-50"].folder


def packed(files: dict[str, bytes], folder: str = FOLDER) -> bytes:
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
    sized: bool = True  # otherwise chunked, as GitHub sends archives
    cuts: list[int] = field(default_factory=list)  # for each request, bytes sent before the connection is cut
    reset: bool = False  # cut with a reset
    statuses: list[int] = field(default_factory=list)  # answered before anything else
    pause: tuple[int, float] | None = None  # after so many bytes, so many seconds
    requests: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/archive/commit.zip"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    def archive(self, dataset: str = "ESC-50", clips: int = 3, sha256: str | None = None) -> Archive:
        return replace(ARCHIVES[dataset], url=self.url, clips=clips, sha256=sha256)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        site = self.site
        if self.path.startswith("/archive/"):  # as github.com redirects to codeload.github.com
            self.answer(302, {"Location": "/zip", "Content-Length": "0"})
            return
        site.requests.append(dict(self.headers))
        if site.statuses:
            self.answer(site.statuses.pop(0), {"Content-Length": "0"})
            return
        self.answer(200, {"Content-Length": str(len(site.body))} if site.sized else {"Transfer-Encoding": "chunked"})
        self.send(site.body, site.cuts.pop(0) if site.cuts else None)

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
    monkeypatch.setattr(archives, "FIRST_WAIT_S", 0.01)
    servers = []

    def start(body: bytes | None = None, **faults) -> Site:
        site = Site(packed(ESC50) if body is None else body, **faults)
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": site}))
        server.handle_error = lambda request, client_address: None  # clients may hang up
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


def work_folder(data_dir: Path) -> Path:
    return data_dir.with_name(f".{data_dir.name}.download")


def beside(data_dir: Path) -> set[str]:
    """Names in the data set's parent folder, but for the empty lock file."""
    return {path.name for path in data_dir.parent.iterdir() if path.suffix != ".lock"}


def is_whole(data_dir: Path) -> bool:
    """The recordings are the archive's, byte for byte, and nothing is left beside them but the archive's record."""
    same = all((data_dir / "audio" / name).read_bytes() == wave for name, wave in CLIPS.items())
    return same and beside(data_dir) == {data_dir.name, f"{data_dir.name}.archive.json"}


def fails(site: Site, data_dir: Path, *parts: str, sha256: str | None = None) -> str:
    """The one line that a download fails with; it has these parts, and no data set appears."""
    with pytest.raises(DataError) as caught:
        download("ESC-50", data_dir, site.archive(sha256=sha256))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert not data_dir.exists()
    assert not (work_folder(data_dir) / "unpacked").exists()
    return message


# ---- what works


@pytest.mark.parametrize("sized", [True, False])
def test_an_archive_is_fetched_unpacked_and_removed(serve, data_dir, capsys, sized):
    site = serve(sized=sized)
    assert download("ESC-50", data_dir, site.archive()) == data_dir
    assert is_whole(data_dir)
    assert len(load_clips("ESC-50", data_dir).clips) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert site.requests[0]["Accept-Encoding"] == "identity"
    assert "CC BY-NC" in err
    assert site.url in err.replace("\n", "")


@pytest.mark.parametrize(("dataset", "files"), [("ESC-50", ESC50), ("ESC-10", ESC50), ("FSC22", FSC22)])
def test_every_data_set_is_read_from_the_folder_and_the_layout_of_its_archive(serve, tmp_path, dataset, files):
    site = serve(packed(files, ARCHIVES[dataset].folder))
    folder = download(dataset, tmp_path / dataset, site.archive(dataset, clips=2))
    assert load_clips(dataset, folder).clips
    assert all((folder / name).exists() for name in ARCHIVES[dataset].layout)


def test_the_archives_are_of_one_commit_of_the_authors_repositories():
    for archive in ARCHIVES.values():
        repository, _, commit = archive.url.removesuffix(".zip").partition("/archive/")
        assert repository in ("https://github.com/karolpiczak/ESC-50", "https://github.com/IRMIOT/FSC22")
        assert len(bytes.fromhex(commit)) == 20
        assert archive.folder == f"{repository.rsplit('/')[-1]}-{commit}"
        assert archive.sha256 is None or len(bytes.fromhex(archive.sha256)) == 32


def test_a_data_set_that_is_there_is_not_fetched(serve, data_dir, capsys):
    site = serve()
    download("ESC-50", data_dir, site.archive())
    assert len(site.requests) == 1
    download("ESC-50", data_dir, site.archive())
    assert len(site.requests) == 1
    assert "there already" in capsys.readouterr().err


def test_an_empty_folder_is_filled(serve, data_dir):
    data_dir.mkdir(parents=True)
    download("ESC-50", data_dir, serve().archive())
    assert is_whole(data_dir)


def test_a_link_to_another_disk_is_followed(serve, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "ESC-50")
    download("ESC-50", tmp_path / "link", serve().archive())
    assert (tmp_path / "link").is_symlink()
    assert is_whole(tmp_path / "disk" / "ESC-50")


def test_other_numbers_of_clips_than_known_are_told(serve, data_dir, capsys):
    download("ESC-50", data_dir, serve().archive(clips=2000))
    assert "3 clips, where 2000" in " ".join(capsys.readouterr().err.split())


def test_two_downloads_at_once_fetch_one_archive(serve, data_dir):
    site = serve(pause=(100_000, 0.3))
    both = [threading.Thread(target=download, args=("ESC-50", data_dir, site.archive())) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(20)
    assert is_whole(data_dir)
    assert len(site.requests) == 1


# ---- the archive's SHA-256


def test_an_archive_with_the_expected_sha256_is_recorded_beside_the_data_set(serve, data_dir):
    site = serve()
    download("ESC-50", data_dir, site.archive(sha256=site.sha256))
    assert is_whole(data_dir)
    record = json.loads(data_dir.with_name("ESC-50.archive.json").read_text())
    assert record == {"url": site.url, "sha256": site.sha256, "bytes": len(site.body)}


def test_an_archive_with_another_sha256_is_refused(serve, data_dir):
    site = serve()
    fails(site, data_dir, site.url, "SHA-256 is not the expected", "0" * 64, sha256="0" * 64)
    assert len(site.requests) == 1
    assert beside(data_dir) == set()


def test_the_first_archive_without_a_known_sha256_is_trusted_and_a_later_one_must_equal_it(serve, data_dir):
    site = serve()
    download("ESC-50", data_dir, site.archive())
    first = site.sha256
    for name in ("mine", "again"):
        data_dir.rename(data_dir.with_name(name))
        if name == "mine":
            download("ESC-50", data_dir, site.archive())
    site.body = packed(dict(reversed(ESC50.items())))
    fails(site, data_dir, "SHA-256 is not the expected", first)


@pytest.mark.parametrize("record", [b"", b"{", b"[1]", b"\xff", b'{"url": "http://elsewhere"}'])
def test_a_spoilt_record_of_the_archive_counts_for_nothing(serve, data_dir, record):
    data_dir.parent.mkdir()
    data_dir.with_name("ESC-50.archive.json").write_bytes(record)
    download("ESC-50", data_dir, serve().archive())
    assert is_whole(data_dir)


# ---- connections that fail


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("sized", [False, True])
def test_a_cut_connection_is_tried_again_within_the_call(serve, data_dir, sized, reset):
    site = serve(cuts=[100_000, 150_000], sized=sized, reset=reset)
    download("ESC-50", data_dir, site.archive())
    assert len(site.requests) == 3
    assert is_whole(data_dir)


def test_a_connection_that_is_cut_every_time_ends_with_one_line_and_nothing_left(serve, data_dir):
    site = serve(cuts=[50_000] * ATTEMPTS)
    fails(site, data_dir, "cannot be fetched", "try again")
    assert len(site.requests) == ATTEMPTS
    assert beside(data_dir) == set()


def test_a_server_that_falls_silent_is_asked_again(serve, data_dir, monkeypatch):
    monkeypatch.setattr(archives, "TIMEOUT_S", (0.5, 0.1))
    site = serve(pause=(100_000, 0.5))
    download("ESC-50", data_dir, site.archive())
    assert len(site.requests) == 2
    assert is_whole(data_dir)


# ---- servers that refuse


def test_a_server_in_trouble_is_asked_again(serve, data_dir):
    site = serve(statuses=[503, 429])
    download("ESC-50", data_dir, site.archive())
    assert len(site.requests) == 3
    assert is_whole(data_dir)


@pytest.mark.parametrize(("status", "requests"), [(500, ATTEMPTS), (404, 1), (403, 1)])
def test_a_refusal_is_one_line_with_the_address_and_the_way_by_hand(serve, data_dir, status, requests):
    site = serve(statuses=[status] * ATTEMPTS)
    fails(site, data_dir, str(status), site.url, f"{data_dir}/meta/esc50.csv", f"{data_dir}/audio")
    assert len(site.requests) == requests
    assert beside(data_dir) == set()


def test_no_server_is_one_line_with_the_address_and_the_way_by_hand(serve, data_dir):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        site = Site(b"", port=unused.getsockname()[1])
        fails(site, data_dir, site.url, "by hand", FOLDER, f"{data_dir}/meta/esc50.csv", f"{data_dir}/audio")
    assert beside(data_dir) == set()


def test_an_endless_archive_is_given_up(serve, data_dir, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 200_000)
    site = serve(sized=False)
    fails(site, data_dir, "larger than")
    assert len(site.requests) == 1
    assert not work_folder(data_dir).exists()


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
    assert beside(data_dir) == set()


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
        (with_entry(f"{FOLDER}/../../escaped"), "leads out"),
        (with_entry("../escaped"), "leads out"),
        (with_entry("/tmp/unheard-escaped"), "absolute"),
        (with_entry(f"{FOLDER}/..\\escaped"), "backslash"),
        (with_entry("C:/escaped"), "drive letter"),
        (with_entry(f"{FOLDER}/c:escaped"), "drive letter"),
        (with_entry(f"{FOLDER}/escaped", stat.S_IFLNK | 0o777, b"/etc/passwd"), "link"),
        (with_entry(f"{FOLDER}/escaped", stat.S_IFIFO | 0o666, b""), "device"),
    ],
)
def test_an_unsafe_archive_is_refused_whole(serve, data_dir, body, reason):
    fails(serve(body), data_dir, reason)
    assert beside(data_dir) == set()
    assert not list(data_dir.parent.parent.rglob("*escaped*"))
    assert not Path("/tmp/unheard-escaped").exists()


def test_names_that_differ_in_case_are_let_in(serve, data_dir):
    download("ESC-50", data_dir, serve(packed(ESC50 | {"license": b"lower"})).archive())
    assert (data_dir / "license").read_bytes() == b"lower"


def test_an_archive_that_would_unpack_to_hundreds_of_times_its_size_is_refused(serve, data_dir):
    fails(serve(packed({"meta/esc50.csv": ESC50_CSV, "zeros": bytes(50_000_000)})), data_dir, "unpack to 50 MB", "200")
    assert beside(data_dir) == set()


def test_an_archive_that_would_unpack_to_too_much_is_refused(serve, data_dir, monkeypatch):
    body = packed(ESC50 | {"zeros": bytes(1_000_000)})
    monkeypatch.setattr(unpack, "MAX_BYTES", len(body) + 1000)
    fails(serve(body), data_dir, "would unpack to")


@pytest.mark.parametrize("missing", ["meta/esc50.csv", "audio/2-2-A-10.wav"])
def test_an_archive_without_one_of_its_files_names_it(serve, data_dir, missing):
    body = packed({name: content for name, content in ESC50.items() if name != missing})
    message = fails(serve(body), data_dir, f"{FOLDER}/{missing} is missing".replace("csv is", "csv: is"))
    assert "unpacked" not in message
    assert beside(data_dir) == set()


def test_an_archive_of_another_folder_is_refused(serve, data_dir):
    fails(serve(packed(ESC50, "ESC-50-main")), data_dir, f"no folder {FOLDER}")


# ---- the disk


@pytest.mark.parametrize("what", ["file", "folder"])
def test_something_else_in_the_data_sets_place_stays_untouched(serve, data_dir, what):
    mine = data_dir / "mine.txt" if what == "folder" else data_dir
    mine.parent.mkdir(parents=True)
    mine.write_text("keep me")
    site = serve()
    with pytest.raises(DataError, match=r"not a complete ESC-50.*move it away"):
        download("ESC-50", data_dir, site.archive())
    assert mine.read_text() == "keep me"
    assert site.requests == []


def test_a_folder_that_cannot_be_written_is_one_line(serve, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*cannot be written.*--data-dir"):
        download("ESC-50", tmp_path / "file" / "ESC-50", serve().archive())


def in_another_process(data_dir: Path, site: Site, before: str) -> subprocess.Popen:
    program = f"""
import resource, time
import training.data.download as module
from training.data.download import Archive
{before}
try:
    module.download("ESC-50", module.Path({str(data_dir)!r}), {site.archive()!r})
except module.DataError as error:
    raise SystemExit(str(error))
"""
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("limit", [100_000, 140_000], ids=["while fetching", "while unpacking"])
def test_a_full_disk_is_one_line_and_a_complete_archive_is_kept(serve, data_dir, limit):
    # A limit on the size of one file stands in for the full disk. Of 150 kB of zeros only a little is fetched.
    zeros = ESC50 | {"audio/1-1-A-0.wav": bytes(150_000)}
    for name in ("audio/2-2-A-10.wav", "audio/3-3-A-2.wav"):
        zeros[name] = CLIPS[name.removeprefix("audio/")][: 10_000 if limit == 140_000 else None]
    site = serve(packed(zeros))

    process = in_another_process(data_dir, site, f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))")
    line = process.communicate(timeout=30)[1].strip().splitlines()[-1]
    assert "cannot be written (File too large)" in line
    assert "free some space" in line
    assert not data_dir.exists()
    download("ESC-50", data_dir, site.archive())
    assert (data_dir / "audio" / "1-1-A-0.wav").read_bytes() == bytes(150_000)
    assert len(site.requests) == (1 if limit == 140_000 else 2)  # a complete archive was kept


def killed_when(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    try:
        while not condition():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()


def test_a_download_killed_in_the_middle_begins_anew(serve, data_dir):
    site = serve(pause=(200_000, 20.0))

    def has_begun() -> bool:
        assert not data_dir.exists()
        return any(path.stat().st_size >= 100_000 for path in work_folder(data_dir).glob("*"))

    killed_when(has_begun, in_another_process(data_dir, site, ""))
    assert not data_dir.exists()
    download("ESC-50", data_dir, site.archive())
    assert len(site.requests) == 2
    assert is_whole(data_dir)


def test_an_unpacking_killed_at_its_end_is_done_again_without_the_server(serve, data_dir):
    site = serve()
    unpacked = work_folder(data_dir) / "unpacked" / "audio" / "3-3-A-2.wav"
    killed_when(unpacked.exists, in_another_process(data_dir, site, "module.load_clips = lambda *_: time.sleep(20)"))
    assert not data_dir.exists()
    (unpacked.parent / "left over").write_text("")
    download("ESC-50", data_dir, site.archive())
    assert len(site.requests) == 1
    assert is_whole(data_dir)
    assert not (data_dir / "audio" / "left over").exists()


# ---- the command


def test_the_command_ends_with_its_result_as_json(serve, data_dir, monkeypatch, capsys):
    monkeypatch.setitem(ARCHIVES, "ESC-50", serve().archive())
    assert main(["--dataset", "ESC-50", "--data-dir", str(data_dir)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["clips"], result["classes"], result["data_dir"]) == (3, 3, str(data_dir))
    assert result["license"] == "CC BY-NC 3.0"


def test_the_command_without_a_server_ends_with_2_and_one_line(serve, data_dir, monkeypatch, capsys):
    site = serve(statuses=[404])
    monkeypatch.setitem(ARCHIVES, "ESC-50", site.archive())
    assert main(["--dataset", "ESC-50", "--data-dir", str(data_dir)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith(f"error: {site.url}: cannot be fetched")


@pytest.mark.parametrize("dataset", ["synthetic", "folder", "ESC-5"])
def test_a_data_set_without_an_archive_lists_those_with_one(dataset, data_dir, capsys):
    with pytest.raises(UsageError, match="ESC-50, ESC-10, FSC22"):
        download(dataset, data_dir)
    assert main(["--dataset", dataset, "--data-dir", str(data_dir)]) == 2
    assert capsys.readouterr().err.startswith(f"error: --dataset: got {dataset}")
