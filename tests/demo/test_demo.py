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
from demo.bundle_choice import BundleChoice, find_bundles
from demo.drawing.spectrogram import draw_spectrogram
from demo.embedded_recording import MAX_SECONDS, embed_recording
from demo.examples import EXAMPLE_SOUNDS, pick_examples
from demo.heard import Heard, clock, heard
from demo.labels.label_presets import PRESETS, presets
from demo.labels.typed_labels import MAX_LABELS, read_labels, write_labels
from serving.audio import read_audio
from serving.embed import main as embed
from serving.embedder import Embedder
from serving.errors import AudioError, LabelError, UsageError
from serving.zeroshot import unit_rows
from tests.talking_bundle import write_talking_bundle

ROOT = Path(__file__).parents[2]
RATE_HZ = 16_000
# The command, which writes connections to other machines to stderr.
WATCHED = """
import sys

def watch(event, arguments):
    if event == "socket.connect" and arguments[1][0] not in ("127.0.0.1", "::1", "localhost"):
        print("CONNECTS TO", arguments[1], file=sys.stderr, flush=True)

sys.addaudithook(watch)
from demo.__main__ import main
raise SystemExit(main(sys.argv[1:]))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_demo(environment, log, *arguments) -> tuple[subprocess.Popen, str]:
    """The demo in a process where torch cannot be imported, once it has printed its address."""
    command = [sys.executable, "-c", WATCHED, *map(str, arguments), "--port", str(free_port())]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log.open("w"), text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("http"):
            return process, line.strip()
    pytest.fail(f"the demo ended before it was ready: {log.read_text()}")


@pytest.fixture(scope="module")
def talking(bundle_folder, tmp_path_factory) -> Embedder:
    """A bundle that understands typed words; it is offered first, and the one without a text model beside it."""
    return Embedder.load(write_talking_bundle(bundle_folder, tmp_path_factory.mktemp("talking") / "talking"))


@pytest.fixture(scope="module")
def library(bundle_folder, recordings, tmp_path_factory) -> Path:
    """The small recordings, embedded by the command."""
    out = tmp_path_factory.mktemp("library") / "small.parquet"
    assert embed([str(bundle_folder), str(recordings), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def address(talking, bundle_folder, library, without_torch, tmp_path_factory):
    log = tmp_path_factory.mktemp("demo") / "stderr"
    process, address = start_demo(without_torch, log, talking.bundle.folder, bundle_folder, "--library", library)
    yield address
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def client(address) -> Client:
    return Client(address, verbose=False)


def pitch_hz(wave: np.ndarray, rate_hz: int) -> float:
    return float(np.abs(np.fft.rfft(wave)).argmax() * rate_hz / len(wave))


def write_wave(path, wave, rate_hz=RATE_HZ, subtype="FLOAT"):
    soundfile.write(path, np.asarray(wave, np.float32), rate_hz, subtype=subtype)
    return path


def test_the_page_is_served_where_torch_cannot_be_imported(address):
    with urllib.request.urlopen(address) as response:
        assert b"Unheard" in response.read()


def test_programs_are_offered_these_actions_and_no_others(client):
    actions = client.view_api(return_format="dict")["named_endpoints"]
    assert set(actions) == {"/classify", "/preset", "/listen", "/stop", "/similar", "/play", "/compare", "/model"}


def test_the_api_ranks_an_uploaded_recording_as_the_embedder_does(client, recordings, talking):
    path = recordings / "tone" / "0.wav"
    answer = client.predict(handle_file(path), api_name="/classify")
    wanted = talking.classify(*read_audio(path))
    assert [row["label"] for row in answer["ranking"]] == [label for label, _ in wanted]
    shares = [row["probability"] for row in answer["ranking"]]
    np.testing.assert_allclose(shares, [share for _, share in wanted], atol=1e-4)
    assert sum(shares) == pytest.approx(1)
    assert all(row["seen"] for row in answer["ranking"])
    assert list(answer["milliseconds"]) == ["decode", "resample", "model", "rank"]
    level = answer["clip"].pop("level_dbfs")
    assert level == pytest.approx(20 * np.log10(np.abs(read_audio(path)[0]).max()))
    assert answer["clip"] == {"seconds": 3.0, "rate_hz": RATE_HZ, "channels": 1, "silent": False}
    assert answer["windows"][0]["level_dbfs"] == level
    assert (answer["backend"], answer["precision"]) == (talking.backend, "fp32")


def test_each_window_of_a_long_recording_is_named(client, recordings, tmp_path):
    window = 77_040
    parts = [np.resize(read_audio(recordings / kind / "0.wav")[0][:, 0], window) for kind in ("noise", "tone")]
    path = write_wave(tmp_path / "both.wav", np.concatenate(parts))
    answer = client.predict(handle_file(path), api_name="/classify")
    assert [row["label"] for row in answer["windows"]] == ["noise", "tone"]


def test_typed_labels_are_ranked_and_unseen_ones_marked(client, recordings):
    path = handle_file(recordings / "noise" / "0.wav")
    answer = client.predict(path, "whistle, Ticking, hiss , tone", 0, "talking", api_name="/classify")
    seen = {row["label"]: row["seen"] for row in answer["ranking"]}
    assert seen == {"hiss": False, "whistle": False, "Ticking": False, "tone": True}
    assert answer["ranking"][0]["label"] == "hiss"


def test_favouring_new_sounds_is_taken_from_the_scores_of_seen_labels(client, recordings):
    def share(favour: float) -> dict[str, float]:
        path = handle_file(recordings / "noise" / "0.wav")
        answer = client.predict(path, "noise, hiss", favour, "talking", api_name="/classify")
        return {row["label"]: row["probability"] for row in answer["ranking"]}

    assert share(0)["hiss"] == pytest.approx(0.5)  # the two mean the same
    assert share(2)["hiss"] / share(2)["noise"] == pytest.approx(np.exp(2), rel=1e-3)


def test_a_bundle_without_a_text_model_ranks_its_own_names_and_says_why_it_ranks_no_others(client, recordings):
    path = handle_file(recordings / "tone" / "0.wav")
    assert client.predict(path, "tone, noise", 0, "bundle", api_name="/classify")["ranking"][0]["label"] == "tone"
    with pytest.raises(AppError, match=r"got hiss; this bundle knows clicks, noise, tone, and has no text model"):
        client.predict(path, "hiss, tone", 0, "bundle", api_name="/classify")


def test_a_preset_gives_labels_to_type(client):
    own = client.predict("the bundle's classes", "bundle", api_name="/preset")
    assert own == {"labels": "clicks, noise, tone"}
    assert client.predict("FSC22", "talking", api_name="/preset") == {"labels": PRESETS["FSC22"]}
    with pytest.raises(AppError, match="preset: got FSC22; this bundle understands the bundle's classes"):
        client.predict("FSC22", "bundle", api_name="/preset")


def test_a_bundle_says_what_it_is(client, bundle_folder):
    answer = client.predict("bundle", api_name="/model")
    assert answer["classes"] == ["clicks", "noise", "tone"]
    assert answer["any_text"] is False
    assert client.predict("talking", api_name="/model")["any_text"] is True


def test_pieces_of_sound_are_ranked_as_the_last_window_that_they_make(client, recordings, talking, tmp_path):
    window = talking.manifest.window
    sound = np.concatenate([read_audio(recordings / "noise" / f"{i}.wav")[0][:, 0] for i in range(3)])  # 9 s
    for i, piece in enumerate(np.array_split(sound, 9)):
        answer = client.predict(handle_file(write_wave(tmp_path / f"{i}.wav", piece)), api_name="/listen")
    assert answer["heard_s"] == pytest.approx(9)
    wanted = dict(talking.classify(sound[-window.samples :], RATE_HZ))
    for row in answer["ranking"]:
        assert row["probability"] == pytest.approx(wanted[row["label"]], abs=0.02)
    assert client.predict(api_name="/stop") == {"heard_s": pytest.approx(9)}
    assert client.predict(handle_file(tmp_path / "0.wav"), api_name="/listen")["heard_s"] == pytest.approx(1)


def test_visitors_do_not_hear_each_other(client, address, recordings):
    other = Client(address, verbose=False)
    path = recordings / "tone" / "0.wav"
    before = client.predict(handle_file(path), api_name="/listen")["heard_s"]
    assert other.predict(handle_file(path), api_name="/listen")["heard_s"] == pytest.approx(3)
    assert client.predict(handle_file(path), api_name="/listen")["heard_s"] == pytest.approx(before + 3)


def test_the_nearest_are_those_that_a_comparison_with_every_row_finds(client, recordings, embedder, library):
    answer = client.predict(handle_file(recordings / "tone" / "0.wav"), 24, api_name="/similar")
    paths = sorted(str(path.relative_to(recordings)) for path in recordings.rglob("*.wav"))
    rows = embedder.embed_files([recordings / path for path in paths])
    unit = unit_rows(rows - embedder.zeroshot.mean)
    cosines = unit @ unit[paths.index("tone/0.wav")]
    wanted = dict(zip(paths, cosines.tolist(), strict=True))
    assert answer["rows"] == 24
    assert answer["neighbours"][0]["recording"] == "tone/0.wav"
    assert answer["neighbours"][0]["class"] == "tone"
    assert {row["recording"]: row["cosine"] for row in answer["neighbours"]} == pytest.approx(wanted, abs=1e-4)
    cosines = [row["cosine"] for row in answer["neighbours"]]
    assert cosines == sorted(cosines, reverse=True)


@pytest.mark.parametrize("count", [0, 51])
def test_a_count_out_of_range_is_told(client, recordings, count):
    with pytest.raises(AppError, match=f"count: got {count}; wanted 1 to 50"):
        client.predict(handle_file(recordings / "tone" / "0.wav"), count, api_name="/similar")


def test_silence_is_like_nothing(client, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE_HZ), RATE_HZ)
    with pytest.raises(AppError, match="is silent"):
        client.predict(handle_file(tmp_path / "silence.wav"), api_name="/similar")


def test_words_find_the_recordings_that_they_describe(client):
    answer = client.predict(None, 8, "talking", "whistle", api_name="/similar")
    assert {row["class"] for row in answer["neighbours"]} == {"tone"}
    scores = [row["score"] for row in answer["neighbours"]]
    assert scores == sorted(scores, reverse=True)
    assert client.predict(None, 1, "talking", "hiss zzyx", api_name="/similar")["unknown_words"] == {
        "hiss zzyx": ["zzyx"]
    }


def test_a_recording_and_words_together_find_what_is_like_both(client, recordings):
    answer = client.predict(handle_file(recordings / "tone" / "0.wav"), 3, "talking", "whistle", api_name="/similar")
    assert {row["class"] for row in answer["neighbours"]} == {"tone"}
    assert "score" in answer["neighbours"][0]


@pytest.mark.parametrize(
    ("words", "bundle", "reason"),
    [
        ("zzyx", "talking", "knows none of its words"),
        ("x" * 301, "talking", "wanted at most 300 characters"),
        ("whistle", "bundle", "has no text model"),
        (" ", "talking", "recording: got none, and no words"),
    ],
)
def test_words_that_find_nothing_say_why(client, words, bundle, reason):
    with pytest.raises(AppError, match=reason):
        client.predict(None, 3, bundle, words, api_name="/similar")


def test_a_row_is_played_as_the_sound_that_it_is_about(client, recordings):
    near = client.predict(handle_file(recordings / "tone" / "3.wav"), 1, api_name="/similar")["neighbours"][0]
    answer = client.predict(near["row"], api_name="/play")
    assert answer["recording"] == "tone/3.wav"
    head, data = answer["audio"].split(",")
    assert head == "data:audio/mpeg;base64"
    played, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(data)))
    original, _ = soundfile.read(recordings / "tone" / "3.wav")
    assert len(played) / rate_hz == pytest.approx(3, abs=0.1)
    assert pitch_hz(played, rate_hz) == pytest.approx(pitch_hz(original, RATE_HZ), abs=1)
    with pytest.raises(AppError, match="row: got 24; wanted 0 to 23"):
        client.predict(24, api_name="/play")


def test_compare_runs_every_backend_and_precision_or_says_why_not(client, recordings, bundle_folder):
    answer = client.predict(handle_file(recordings / "clicks" / "0.wav"), "bundle", api_name="/compare")
    results = {(row["backend"], row["precision"]): row for row in answer["results"]}
    assert set(results) == {(backend, "fp32") for backend in ("onnxruntime", "openvino", "tensorrt")}
    assert answer["results"][0]["cosine"] == pytest.approx(1, abs=1e-6)  # the reference comes first
    assert results["openvino", "fp32"]["worst_cosine"] > 0.9999
    for row in answer["results"]:
        assert bool(row["fault"]) != (row["cosine"] is not None and row["median_ms"] > 0)
        assert row["label"] == ("" if row["fault"] else "clicks")


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
    bundle_folder, without_torch, tmp_path
):
    process, address = start_demo(without_torch, tmp_path / "stderr", bundle_folder)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    told = json.loads(output.splitlines()[-1])
    assert told["address"] == address
    assert told["start_seconds"] > 0
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
    [
        "nowhere",
        "BUNDLE --port 0",
        "BUNDLE --host no.such.host.invalid",
        "BUNDLE --examples nowhere",
        "BUNDLE --backend abacus",
        "BUNDLE --library nowhere.parquet",
        "BUNDLE --library BUNDLE/manifest.json",
        "BUNDLE --library LIBRARY --recordings nowhere",
        "BUNDLE --index nowhere.index",
        "BUNDLE --index LIBRARY",
        "BUNDLE --index nowhere.index --library LIBRARY",
        "BUNDLE --recordings .",
    ],
)
def test_wrong_input_is_told_in_one_line(arguments, capsys, monkeypatch, tmp_path, bundle_folder, library):
    monkeypatch.chdir(tmp_path)
    given = arguments.replace("BUNDLE", str(bundle_folder)).replace("LIBRARY", str(library)).split()
    port = [] if "--port" in arguments else ["--port", str(free_port())]
    assert main([*given, *port]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_without_arguments_the_shipped_bundle_comes_first_and_readable_ones_nearby_after_it(
    talking, bundle_folder, tmp_path, capsys
):
    (tmp_path / "near" / "old").mkdir(parents=True)
    (tmp_path / "near" / "old" / "manifest.json").write_text('{"schema_version": 1}')
    (tmp_path / "near" / "mine").symlink_to(bundle_folder)
    shipped = talking.bundle.folder
    found = find_bundles((), shipped=shipped, near=tmp_path / "near", from_scratch=tmp_path)
    assert list(found) == ["shipped", "mine"]
    assert "schema version 1, wanted" in capsys.readouterr().err
    given = find_bundles([bundle_folder], shipped=shipped, near=tmp_path / "near", from_scratch=tmp_path)
    assert list(given) == ["bundle", "shipped"]
    twice = find_bundles([bundle_folder], shipped=bundle_folder, near=tmp_path / "near", from_scratch=tmp_path)
    assert list(twice) == ["bundle"]


def test_the_projects_own_bundles_need_no_signature(tmp_path):
    bundles = BundleChoice(find_bundles((), near=tmp_path), trusted=[tmp_path / "team.key.pub"])
    assert [bundles.open(name).manifest.network for name in bundles.names] == ["yamnet-audioset", "yamnet-compact"]


def test_a_missing_shipped_bundle_is_told_with_a_way_out(tmp_path):
    with pytest.raises(UsageError, match=r"model: the bundle that comes with the demo is not there; .* demo BUNDLE$"):
        find_bundles((), shipped=tmp_path / "model", near=tmp_path)


def test_a_recording_longer_than_the_page_takes_is_refused(embedder, tmp_path):
    path = write_wave(tmp_path / "long.wav", np.zeros(1000 * (MAX_SECONDS + 1)), rate_hz=1000, subtype="PCM_16")
    with pytest.raises(AudioError, match=r"long\.wav: lasts more than 600 s"):
        embed_recording(embedder, path)


@pytest.mark.parametrize(
    ("typed", "labels"),
    [
        ("", None),
        ("dog, Sea_Waves,,dog , DOG", ["dog", "Sea_Waves"]),
        ("a dog barking, short and loud\n\nrain", ["a dog barking, short and loud", "rain"]),
        ("rain; wind", ["rain", "wind"]),
    ],
)
def test_labels_are_read_as_they_are_typed(typed, labels):
    assert read_labels(typed) == labels
    assert read_labels(write_labels(labels or [])) == (
        [label.replace("_", " ") for label in labels] if labels else None
    )


def test_too_many_labels_are_refused():
    with pytest.raises(LabelError, match=f"got {MAX_LABELS + 1}; the page takes up to {MAX_LABELS}"):
        read_labels(",".join(map(str, range(MAX_LABELS + 1))))


def test_presets_are_the_data_sets_classes_and_each_has_a_description():
    from training.data.known_classes import CLASS_NAMES, class_descriptions

    esc50, fsc22 = (read_labels(PRESETS[name]) or [] for name in ("ESC-50", "FSC22"))
    assert [name.replace(" ", "_") for name in fsc22] == list(CLASS_NAMES["FSC22"].values())
    assert {*esc50, *fsc22} == {name.replace("_", " ") for name in class_descriptions()}
    assert len(esc50) == 50


def test_only_presets_that_the_bundle_understands_are_offered(talking, embedder):
    assert list(presets(talking)) == ["the bundle's classes", "ESC-50", "FSC22"]
    assert list(presets(embedder)) == ["the bundle's classes"]


def test_neighbouring_windows_of_one_label_are_one_stretch_and_windows_without_a_label_are_left_out():
    starts, ends = [0.0, 2.0, 4.0, 6.0, 8.0], [2.0, 4.0, 6.0, 8.0, 9.5]
    found = heard(starts, ends, ["rain", "rain", "dog", "", "dog"], [0.5, 0.7, 0.9, 0.8, 0.4])
    assert found == [
        Heard("rain", 0.0, 4.0, pytest.approx(0.6)),
        Heard("dog", 4.0, 6.0, 0.9),
        Heard("dog", 8.0, 9.5, 0.4),
    ]


def test_overlapping_windows_of_one_label_are_one_stretch():
    assert heard([0, 1, 5], [2, 3, 7], ["rain"] * 3, [0.5, 0.5, 0.9]) == [
        Heard("rain", 0.0, 3.0, 0.5),
        Heard("rain", 5.0, 7.0, 0.9),
    ]


def test_times_are_written_as_a_clock_shows_them():
    assert [clock(seconds) for seconds in (0, 5.4, 59.6, 754, 3723)] == ["0:00", "0:05", "1:00", "12:34", "1:02:03"]


def test_the_sounds_that_come_with_the_demo_are_readable_and_named():
    examples = pick_examples(EXAMPLE_SOUNDS)
    assert len(examples) == len(list(EXAMPLE_SOUNDS.glob("*.ogg"))) > 6
    for path, name, labels in examples:
        wave, rate_hz = read_audio(path)
        assert name in [*PRESETS["ESC-50"].split(", "), "four in a row"]
        assert labels[0] == name or name == "four in a row"
        assert 3 < len(wave) / rate_hz < 20
        assert 0.05 < np.abs(wave).max() <= 1.01


def test_examples_are_one_of_each_class_folder_else_files_spread_over_the_folder(recordings, tmp_path):
    assert [each.name for each in pick_examples(recordings)] == ["clicks", "noise", "tone"]
    for i in range(24):
        (tmp_path / f"{i:02}.wav").touch()
    assert [each.name for each in pick_examples(tmp_path)] == [f"{i:02}" for i in range(0, 24, 2)]


def draw(embedder, wave) -> str:
    window = embedder.manifest.window
    return draw_spectrogram(wave, embedder.log_mel(wave, window.rate_hz), window, embedder.manifest.front_end)


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
    assert [(each.path.name, each.name) for each in pick_examples(tmp_path)] == [
        ("1-a.wav", "dog"),
        ("1-b.wav", "sea waves"),
    ]
