"""The comparison with other packages: who is missing is named, who is measured computes what it says."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.bundle_parts import count_work, front_end_graph, network_graph
from benchmarks.inputs import input_clips, synthesise_clip
from benchmarks.peers import peer as peer_module
from benchmarks.peers.__main__ import Options, compare_with_bundle, main, time_peers
from benchmarks.peers.peer import Computation, two_part_peer
from benchmarks.peers.peer_rows import PeerRow, best_rows, peer_ratios, peer_row, ratio_table
from serving.bundle.bundle import open_bundle
from serving.errors import BackendError
from serving.extras import pip_install

COMPUTATION = Computation(3, 2, 0.96, 10**6, None, "none", "none", "none", "untrained")


def row(name: str, network: str, ours: bool, rate: float, p50_ms: float, precision: str = "fp32") -> PeerRow:
    fields = vars(COMPUTATION)
    return PeerRow(name, network, ours, precision, rate, "one", 9, p50_ms, p50_ms, p50_ms, 2 * p50_ms, None, **fields)


def test_a_package_that_is_missing_is_listed_with_the_way_out(bundle_folder, tmp_path, capsys, monkeypatch):
    absent = {"torchvggish", "librosa", "torch_vggish_yamnet"}
    monkeypatch.setattr(peer_module, "find_spec", lambda name: None if name in absent else find_spec(name))
    flags = "--clips 1 --bulk-seconds 0 --rounds 1 --repeats 1 --seconds 1 --threads 1"
    names = "Unheard,torch-vggish-yamnet,torchvggish,librosa + ONNX Runtime"
    assert main([str(bundle_folder), *flags.split(), "--families", names, "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert list(result["not_measured"]) == ["torch-vggish-yamnet", "torchvggish", "librosa + ONNX Runtime"]
    for family, why in result["not_measured"].items():
        assert why.startswith(f"not installed: {pip_install('peers')}")
        assert any(line.startswith(f"{family}: not installed: {pip_install('peers')}") for line in lines)
        assert f"- {family}: not installed" in (tmp_path / "peers.md").read_text()
    assert all(row["ours"] for row in result["rows"])
    assert result["rows"]
    assert result["ratios"] == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("", "BUNDLES: got none; wanted bundle folders"),
        ("absent", "absent: no such bundle folder"),
        ("{bundle} --families speed", "--families: got speed"),
        ("{bundle} --clips 0", "--clips: got 0"),
        ("{bundle} --bulk-seconds -1", "--bulk-seconds: got -1"),
        ("{bundle} --rounds 0", "--rounds: got 0"),
        ("{bundle} --threads 0", "--threads"),
        ("{bundle} --seconds nan", "--seconds: got nan"),
        ("{bundle} --recordings absent", "absent: no such folder"),
    ],
)
def test_wrong_flags_exit_2_with_one_line_and_leave_nothing(flags, words, bundle_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(flags.format(bundle=bundle_folder).split()) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_recordings_shorter_than_the_others_window_are_refused(bundle_folder, tmp_path, capsys):
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    (sounds / "click.wav").write_bytes(synthesise_clip(0.5, np.random.default_rng(0)))
    assert main([str(bundle_folder), "--recordings", str(sounds), "--out", str(tmp_path / "peers")]) == 2
    assert "click.wav: lasts 0.50 s; wanted 0.96 s or more: give another folder" in capsys.readouterr().err
    assert not (tmp_path / "peers").exists()


def test_the_network_alone_after_the_front_end_alone_is_the_model(bundle_folder, tmp_path):
    bundle = open_bundle(bundle_folder)
    onnx.save(network_graph(bundle), str(tmp_path / "network.onnx"))
    wave = 0.1 * np.random.default_rng(0).standard_normal((3, bundle.manifest.window.samples), np.float32)

    def run(path: Path, batch: np.ndarray) -> np.ndarray:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {session.get_inputs()[0].name: batch})[0])

    apart = run(tmp_path / "network.onnx", run(bundle.path("frontend.onnx"), wave))
    np.testing.assert_allclose(apart, run(bundle.model("fp32"), wave), atol=1e-5)
    whole = count_work(onnx.load(str(bundle.model("fp32"))))
    parts = count_work(front_end_graph(bundle)), count_work(network_graph(bundle))
    assert whole.macs == parts[0].macs + parts[1].macs
    assert whole.layers == parts[0].layers + parts[1].layers


def test_multiply_accumulates_are_those_of_the_formula(bundle_folder):
    # yamnet-compact on 480 x 64: the first convolution, six separable pairs (depthwise 3x3, pointwise), FC 512 -> 128.
    macs, (height, width), channels = 240 * 32 * 32 * 9, (240, 32), 32
    for stride, out in ((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)):
        height, width = height // stride, width // stride
        macs += height * width * (channels * 9 + channels * out)
        channels = out
    assert count_work(network_graph(open_bundle(bundle_folder))).macs == macs + 512 * 128


def test_the_faster_bulk_counts_and_medians_decide():
    peer = SimpleNamespace(name="a", network="n", ours=False, precision="fp32", computation=COMPUTATION)
    bulk = {"slow": np.array([2, 4, 90]) * 1e8, "fast": np.array([1, 2, 90]) * 1e8}
    single = np.array([[30, 90, 90, 3, 5], [10, 90, 90, 4, 4], [20, 90, 90, 2, 9]]) * 1e6
    made = peer_row(peer, bulk, single, 0.5)
    assert (made.bulk, made.clips_per_second, made.worst_cosine) == ("fast", 5.0, 0.5)
    assert (made.p50_ms, made.n, made.rest_p50_ms) == (4.0, 6, 20.0)
    assert (made.layers, made.windows, made.network_macs) == (3, 2, 10**6)


def test_bulk_jobs_repeat_their_files_until_they_last_and_count_every_one():
    given: list[int] = []

    def bulk(paths: Sequence[Path]) -> None:
        given.append(len(paths))
        time.sleep(0.005 * len(paths))

    peer = SimpleNamespace(name="a", one=lambda path: time.sleep(0.005), bulk={"all": bulk})
    paths = [Path("1.wav"), Path("2.wav")]
    taken = time_peers([peer], paths, Options(rounds=2, repeats=3, bulk_seconds=0.1))
    assert given[:2] == [2, 2]
    assert len(set(given[2:])) == 1  # the same files in every round
    assert 4 <= given[-1] <= 20
    assert given[-1] % 2 == 0
    assert {key: len(values) for key, values in taken.items()} == {("a", "all"): 2, ("a", "one"): 3}
    assert taken["a", "one"].shape == (3, 8)
    assert all(5e6 <= value < 50e6 for values in taken.values() for value in values.ravel())
    given.clear()
    time_peers([peer], paths, Options(rounds=1, repeats=1, bulk_seconds=0))
    assert set(given) == {2}


def test_the_best_backend_of_each_network_stands_in_the_table_in_fp32_and_in_each_faster_precision():
    rows = [
        row("Unheard yamnet, a", "yamnet", True, 100, 10), row("Unheard yamnet, b", "yamnet", True, 200, 8),
        row("Unheard yamnet, b int8", "yamnet", True, 400, 4, "int8"),
        row("Unheard yamnet, b bf16", "yamnet", True, 300, 6, "bf16"),
        row("Unheard vggish, a", "vggish", True, 50, 20), row("Unheard vggish, a int8", "vggish", True, 40, 24, "int8"),
        row("other", "yamnet", False, 40, 24),
    ]  # fmt: skip
    ratios = peer_ratios(rows)
    assert len(ratios) == 6
    names = ["yamnet, b", "yamnet, b bf16", "yamnet, b int8", "vggish, a"]
    assert [best.name for best in best_rows(rows)] == [f"Unheard {name}" for name in names]
    table = ratio_table(rows, ratios)
    assert table.head[1:] == names
    assert table.lines == [["other", "5.0, 3.0, 3.0", "7.5, 4.0, 4.0", "10.0, 6.0, 6.0", "1.2, 1.2, 1.2"]]


def test_a_bulk_way_that_gives_other_embeddings_is_no_peer():
    calls = 0

    def run(batch: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        rows = batch.reshape(len(batch), -1)[:, :16]
        return rows if calls <= 4 else -rows  # right for two clips, one by one, twice

    with input_clips(None, 0.1, 2).as_files() as paths:

        def decode(path: Path) -> np.ndarray:
            return np.frombuffer(path.read_bytes()[:808], np.int16).astype(np.float32)[None]

        peer = two_part_peer("turned", "n", COMPUTATION, decode, run, 2)
        with pytest.raises(BackendError, match=r"turned: threads ahead, 8 clips a batch gives other embeddings"):
            compare_with_bundle(peer, paths)


def test_nothing_of_the_serving_half_of_benchmarks_needs_torch(without_torch):
    code = "import benchmarks.latency, benchmarks.load, benchmarks.efficiency, benchmarks.scaling, "
    code += "benchmarks.suite, benchmarks.peers.__main__"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=without_torch).returncode == 0
