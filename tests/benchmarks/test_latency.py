"""The latency benchmark: it times what serving does, and states what it measured."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bundle_parts import GPU_BACKENDS, open_model
from benchmarks.host import read_host
from benchmarks.inputs import input_clips, synthesise_clip
from benchmarks.latency import main
from benchmarks.latency_jobs import StageKey, embed_encoded
from benchmarks.latency_report import stage_rows, summarise_rows
from serving.audio import decode_audio
from serving.bundle.bundle import open_bundle
from serving.cores import usable_cores
from serving.embedder import Embedder

CONFIGURATIONS = [(b, p, t) for t in (1, 2) for b in ("onnxruntime", "openvino") for p in ("fp32", "fp16", "int8")]


@pytest.fixture(scope="module")
def measured(precise_bundle, without_torch, tmp_path_factory) -> tuple[list[str], Path]:
    """The lines that a small measurement of every precision prints, and its folder."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    out = tmp_path_factory.mktemp("latency") / "new" / "folder"
    arguments = f"{precise_bundle} --batch 3,1 --repeats 2 --seconds 0.5 --threads 2,1 --out {out}"
    arguments += " --backends onnxruntime,openvino --precisions fp32,fp16,int8"
    command = [sys.executable, "-m", "benchmarks.latency", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=without_torch)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), out


@pytest.fixture(scope="module")
def result(measured) -> dict:
    """The last line."""
    return json.loads(measured[0][-1])


def test_without_torch_every_backend_precision_batch_and_thread_count_has_its_line(result):
    found = [(s["batch"], s["threads"], s["backend"], s["precision"]) for s in result["summaries"]]
    assert sorted(found) == sorted((n, t, b, p) for n in (1, 3) for b, p, t in CONFIGURATIONS)
    assert result["bundle"]["network"] == "yamnet-compact"
    assert result["machine"]["cores"] == usable_cores()
    settings = {"repeats": 2, "warm_up": 3, "batches": [1, 3], "threads": [1, 2]}
    assert settings.items() <= result["settings"].items()
    assert result["clips"]["seconds"] == [0.5, 0.5, 0.5]


def test_every_measured_stage_takes_time_and_its_percentiles_rise(result):
    timed = [row for row in result["rows"] if row["stage"] != "network"]
    # Three stages that no backend runs; a front end, a model and a whole for each configuration.
    assert len(timed) == 2 * (3 + 3 * 12)
    for row in timed:
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["n"] == 2
        assert row["windows"] == row["batch"]  # half a second is one window
        assert row["clips_per_second"] == pytest.approx(1000 * row["batch"] / row["p50_ms"])


def test_the_network_is_the_difference_of_the_medians_and_all_stages_sum(result):
    rows = {tuple(row[name] for name in StageKey._fields): row for row in result["rows"]}
    for line in result["summaries"]:
        of = (line["batch"], line["backend"], line["precision"], line["threads"])
        network = rows["network", *of]
        front_end = rows["front_end", *of]  # its own: in INT8 OpenVINO's computes in FP32, which takes half as long
        assert network["p50_ms"] == rows["model", *of]["p50_ms"] - front_end["p50_ms"] == line["network"]
        assert network["n"] is network["p95_ms"] is network["p99_ms"] is None
        stages = [line[stage] for stage in ("decode", "resample", "front_end", "network", "pooling")]
        assert line["sum_of_stages"] == pytest.approx(sum(stages))
        assert line["whole_p50"] == rows["whole", *of]["p50_ms"]


def test_parity_stands_beside_speed_and_tells_the_precisions_apart(result, precise_bundle):
    cosines = {(s["backend"], s["precision"], s["threads"]): s["worst_cosine"] for s in result["summaries"]}
    for threads in (1, 2):
        for backend in ("onnxruntime", "openvino"):
            full, half, eight = (cosines[backend, precision, threads] for precision in ("fp32", "fp16", "int8"))
            assert full > 1 - 1e-6
            assert 0.9 < eight < half < full
    results = json.loads((precise_bundle / "parity.json").read_text())["results"]
    worst = min(r["worst_cosine"] for r in results if (r["backend"], r["precision"]) == ("onnxruntime", "fp32"))
    assert result["bundle"]["parity"]["worst_cosine"] == worst


def test_the_cosine_is_that_of_the_clips_windows(precise_bundle, tmp_path, capsys):
    flags = "--batch 1 --repeats 1 --seconds 1 --backends onnxruntime --precisions int8 --threads 1"
    assert main([str(precise_bundle), *flags.split(), "--out", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["summaries"][0]["worst_cosine"]
    bundle = open_bundle(precise_bundle)
    full, eight = (
        Embedder(bundle, open_model(bundle, "onnxruntime", precision, 1, tmp_path), precision, 1)
        for precision in ("fp32", "int8")
    )
    waves = [decode_audio(data) for data in input_clips(None, 1.0).encoded.values()]
    rows, reference = (np.stack([each.embed(*wave) for wave in waves]) for each in (eight, full))
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(reference, axis=1)
    assert told == pytest.approx(((rows * reference).sum(axis=1) / lengths).min(), abs=1e-5)


def test_every_file_is_written_and_tells_the_same(measured, result):
    _, out = measured
    assert {path.name for path in out.iterdir()} == {f"latency.{suffix}" for suffix in ("json", "csv", "md", "png")}
    assert json.loads((out / "latency.json").read_text()) == result
    lines = list(csv.DictReader((out / "latency.csv").open()))
    assert [float(line["p50_ms"]) for line in lines] == [row["p50_ms"] for row in result["rows"]]
    text = (out / "latency.md").read_text()
    for line in result["summaries"]:
        assert f"| {line['backend']} {line['precision']} x{line['threads']} | {line['batch']} |" in text
    assert (out / "latency.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_few_samples_are_said_beside_their_p99(measured):
    assert any("p99 of 2 is close to the slowest" in line for line in measured[0])


def test_what_does_not_work_here_is_named_with_the_reason(bundle_folder, tmp_path, capsys):
    if read_host().gpus:
        pytest.skip("there is a GPU")
    flags = "--batch 1 --repeats 1 --seconds 0.5 --threads 1"
    assert main([str(bundle_folder), *flags.split(), "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {name: result["not_measured"][name] for name in GPU_BACKENDS} == dict.fromkeys(GPU_BACKENDS, "no GPU")
    assert main([str(bundle_folder), *flags.split(), "--backends", "tensorrt"]) == 2
    assert "tensorrt does not work here (no GPU)" in capsys.readouterr().err


def test_a_bundle_that_takes_log_mel_is_measured_with_its_front_end(log_mel_bundle, tmp_path, capsys):
    flags = "--batch 2 --repeats 1 --seconds 0.5 --backends onnxruntime --precisions fp32"
    assert main([str(log_mel_bundle), *flags.split(), "--out", str(tmp_path)]) == 0
    (line,) = json.loads(capsys.readouterr().out.splitlines()[-1])["summaries"]
    assert line["front_end"] > 0
    assert line["worst_cosine"] > 1 - 1e-6


def test_the_timed_path_gives_the_embeddings_of_embedder_embed(embedder, recordings):
    rng = np.random.default_rng(1)
    files = [synthesise_clip(seconds, rng) for seconds in (0.2, 5.0, 12.0)]  # 1, 1 and 3 windows
    files += [path.read_bytes() for path in sorted(recordings.glob("*/0.wav"))]
    wanted = np.stack([embedder.embed(*decode_audio(data)) for data in files])
    got = embed_encoded(embedder, files)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    assert np.array_equal(embed_encoded(embedder, files[2:3])[0], wanted[2])


def test_recordings_are_measured_as_they_are(bundle_folder, recordings, tmp_path, capsys):
    arguments = ["--batch", "2", "--repeats", "1", "--recordings", str(recordings), "--out", str(tmp_path)]
    arguments += ["--backends", "onnxruntime"]
    assert main([str(bundle_folder), *arguments]) == 0
    clips = json.loads(capsys.readouterr().out.splitlines()[-1])["clips"]
    assert clips == {"source": str(recordings), "distinct": 24, "seconds": [3.0, 3.0, 3.0], "rates_hz": [16_000]}


@pytest.mark.parametrize(
    "flags",
    [
        "--batch 0",
        "--batch 1,two",
        "--batch 1,,8",
        "--batch 100000",
        "--repeats 0",
        "--seconds 0",
        "--seconds nan",
        "--seconds 1e9",
        "--threads 0",
        "--threads 1,x",
        "--backends torch",
        "--precisions int4",
        "--recordings {empty}",
        "--recordings {empty}/nothing",
        "--recordings {text}",
        "--out {text}/wave.wav/below",
        "--repeats 1000000000000",
    ],
)
def test_wrong_flags_exit_2_with_one_line(flags, bundle_folder, tmp_path, capsys):
    text, empty = tmp_path / "text", tmp_path / "empty"
    text.mkdir()
    empty.mkdir()
    (text / "wave.wav").write_text("no sound")
    assert main([str(bundle_folder), "--out", str(tmp_path), *flags.format(text=text, empty=empty).split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith(f"error: {flags.split()[0]}: got ") or str(tmp_path) in printed.err


def test_a_folder_that_is_no_bundle_exits_2_and_leaves_nothing(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "manifest.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_split_has_no_network_and_no_front_end():
    of = (8, "tensorrt", "fp16", 2)
    milliseconds = {
        StageKey("decode", 8): 1,
        StageKey("resample", 8): 2,
        StageKey("pooling", 8): 3,
        StageKey("model", *of): 200,
        StageKey("whole", *of): 400,
    }
    durations = {key: np.array([value, value, 9 * value]) * 1_000_000 for key, value in milliseconds.items()}
    rows = stage_rows(durations, 1.5, {("tensorrt", "fp16", 2): 0.999})
    assert {row.stage for row in rows} == {"decode", "resample", "pooling", "model", "whole"}
    (line,) = summarise_rows(rows)
    assert (line.front_end, line.network, line.model, line.sum_of_stages) == (None, None, 200.0, 206.0)
    assert (line.whole_p50, line.clips_per_second, line.worst_cosine) == (400.0, 20.0, 0.999)
    assert rows[-1].windows == 12.0
