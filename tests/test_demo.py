"""The demo: its command, its API through a real client, and its picture. The page is test_demo_browser's."""

import base64
import io
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from demo.__main__ import main
from demo.app import MAX_SECONDS, analyse
from demo.examples import pick_examples
from demo.pictures import draw_picture
from serving.audio import read_audio
from serving.errors import AudioError

ROOT = Path(__file__).parents[1]
RATE_HZ = 16_000
# Torch is blocked as if it were not installed, and connections to other machines are written to stderr.
GUARDED = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchaudio"):
            raise ModuleNotFoundError(f"blocked by the test: {name}", name=name)

def watch(event, arguments):
    if event == "socket.connect" and arguments[1][0] not in ("127.0.0.1", "::1", "localhost"):
        print("CONNECTS TO", arguments[1], file=sys.stderr, flush=True)

sys.meta_path.insert(0, Refuse())
sys.addaudithook(watch)
from demo.__main__ import main
raise SystemExit(main(sys.argv[1:]))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_demo(bundle_folder, log) -> tuple[subprocess.Popen, str]:
    """The demo in a process where torch cannot be imported, once it has printed its address."""
    command = [sys.executable, "-c", GUARDED, str(bundle_folder), "--port", str(free_port())]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log.open("w"), text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("http"):
            return process, line.strip()
    pytest.fail(f"the demo ended before it was ready: {log.read_text()}")


@pytest.fixture(scope="module")
def address(bundle_folder, tmp_path_factory):
    process, address = start_demo(bundle_folder, tmp_path_factory.mktemp("demo") / "stderr")
    yield address
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


@pytest.fixture(scope="module")
def client(address) -> Client:
    return Client(address, verbose=False)


def write_wave(path, wave, rate_hz=RATE_HZ, subtype="FLOAT"):
    soundfile.write(path, np.asarray(wave, np.float32), rate_hz, subtype=subtype)
    return path


def test_the_page_is_served_where_torch_cannot_be_imported(address):
    with urllib.request.urlopen(address) as response:
        assert b"Unheard" in response.read()


def test_the_api_ranks_an_uploaded_recording_as_the_embedder_does(client, recordings, embedder):
    path = recordings / "tone" / "0.wav"
    answer = client.predict(handle_file(path), api_name="/classify")
    wanted = embedder.classify(*read_audio(path))
    assert [row["label"] for row in answer["ranking"]] == [label for label, _ in wanted]
    shares = [row["probability"] for row in answer["ranking"]]
    np.testing.assert_allclose(shares, [share for _, share in wanted], atol=1e-4)
    assert sum(shares) == pytest.approx(1)
    assert list(answer["milliseconds"]) == ["decode", "resample", "model"]
    assert answer["clip"] == {"seconds": 3.0, "rate_hz": RATE_HZ, "channels": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "bad.wav: not a readable audio file"), ([], "no samples"), ([0, np.nan], "1 of 2 samples are NaN")],
    ids=["not audio", "empty", "NaN"],
)
def test_a_recording_that_cannot_be_used_gets_a_reason_and_the_next_one_an_answer(
    client, recordings, tmp_path, content, message
):
    path = tmp_path / "bad.wav"
    if content is None:
        path.write_text("this is no sound")
    else:
        write_wave(path, content)
    with pytest.raises(AppError, match=message) as caught:
        client.predict(handle_file(path), api_name="/classify")
    assert "Traceback" not in str(caught.value)
    assert client.predict(handle_file(recordings / "noise" / "0.wav"), api_name="/classify")["ranking"]


def test_ctrl_c_ends_the_demo_with_exit_0_and_json_on_the_last_line_and_nothing_left_the_machine(
    bundle_folder, tmp_path
):
    process, address = start_demo(bundle_folder, tmp_path / "stderr")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(output.splitlines()[-1])["address"] == address
    log = (tmp_path / "stderr").read_text()
    assert "Traceback" not in log
    assert "CONNECTS TO" not in log


def test_a_port_in_use_is_told_in_one_line(bundle_folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(bundle_folder), "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert error == f"error: --port: {port} is in use on 127.0.0.1; stop what listens there or give another\n"


@pytest.mark.parametrize(
    "arguments",
    ["nowhere", ". --port 0", ". --host no.such.host.invalid", ". --examples nowhere", ". --backend abacus"],
)
def test_wrong_input_is_told_in_one_line(arguments, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    port = [] if "--port" in arguments else ["--port", str(free_port())]
    assert main([*arguments.split(), *port]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_recording_longer_than_the_page_takes_is_refused_before_it_is_decoded(embedder, tmp_path):
    path = write_wave(tmp_path / "long.wav", np.zeros(1000 * (MAX_SECONDS + 1)), rate_hz=1000, subtype="PCM_16")
    with pytest.raises(AudioError, match=r"long\.wav: .*601 s.* up to 600 s"):
        analyse(embedder, path)


def test_examples_are_one_of_each_class_folder_else_files_spread_over_the_folder(recordings, tmp_path):
    assert [name for _, name in pick_examples(recordings)] == ["clicks", "noise", "tone"]
    for i in range(24):
        (tmp_path / f"{i:02}.wav").touch()
    assert [name for _, name in pick_examples(tmp_path)] == [f"{i:02}" for i in range(0, 24, 2)]


def draw(embedder, wave) -> str:
    window = embedder.manifest.window
    return draw_picture(wave, embedder.log_mel(wave, window.rate_hz), window, embedder.manifest.front_end)


def test_a_tone_is_brightest_where_the_picture_says_its_frequency_is(embedder):
    time = np.arange(2 * RATE_HZ) / RATE_HZ
    picture = draw(embedder, (0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32))
    data = re.search(r"base64,([^\"]+)", picture)
    tick = re.search(r"bottom:([\d.]+)%\">1k<", picture)
    assert data
    assert tick
    brightness = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))).convert("RGB")).sum(axis=2)  # [64, n]
    row = int(brightness[:, :190].mean(axis=1).argmax())
    assert (len(brightness) - row - 0.5) / len(brightness) == pytest.approx(float(tick[1]) / 100, abs=1 / 64)


@pytest.mark.parametrize(("seconds", "edges", "hatches"), [(0.5, 0, 3), (4.8, 0, 0), (9.6, 1, 0), (10.6, 1, 3)])
def test_the_picture_shows_the_windows_and_hatches_what_is_added_or_left_out(embedder, seconds, edges, hatches):
    picture = draw(embedder, np.zeros(round(seconds * RATE_HZ), np.float32))
    assert picture.count('class="edge"') == 2 * edges  # in the waveform and in the log-mel
    assert picture.count('class="hatched"') == hatches  # in both and in the caption


def test_examples_of_a_data_set_in_esc50s_layout_are_named_after_their_class(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "meta").mkdir()
    for name in ("1-a.wav", "1-b.wav", "2-a.wav"):
        (tmp_path / "audio" / name).touch()
    rows = "filename,category\n1-b.wav,sea_waves\n1-a.wav,dog\n2-a.wav,dog\ngone.wav,cat\n"
    (tmp_path / "meta" / "esc50.csv").write_text(rows)
    assert [(path.name, name) for path, name in pick_examples(tmp_path)] == [
        ("1-a.wav", "dog"),
        ("1-b.wav", "sea waves"),
    ]
