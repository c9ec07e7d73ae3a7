"""The whole of the benchmarks, as short as they can be: each program runs, and its numbers fit together."""

import csv
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.results_page import collect_records, write_results
from benchmarks.scaling import ScalingRow, growth
from benchmarks.study import digits
from benchmarks.suite import Options, main, plan_runs
from serving.errors import DataError, UsageError

pytestmark = pytest.mark.timeout(1800)  # a minute on two idle cores, but much longer on busy ones

ROOT = Path(__file__).parents[2]

FLAGS = (
    "peers --clips 2 --bulk-seconds 0 --rounds 1 --repeats 2 --seconds 1.2",
    "latency --batch 1 --repeats 2 --seconds 1",
    "resamplers --clips 2 --seconds 1 --repeats 1",
    "load --connections 1,2 --load-seconds 0.5 --seconds 1",
    "training --clips 4 --rounds 1 --batch-size 2 --seconds 1 --precision bf16",
    "efficiency --batch 1 --repeats 1",
    "scaling --clips 2,5 --seconds 1",
)


@pytest.fixture(scope="module")
def results(bundle_folder, tmp_path_factory) -> Path:
    """The folder that a run of all programs leaves, with the page in it."""
    for package in ("librosa", "torch_vggish_yamnet", "torchvggish", "resampy"):
        pytest.importorskip(package, reason="not installed: the extra peers")
    root = tmp_path_factory.mktemp("bench")
    line = [sys.executable, "-m", "benchmarks.suite", str(bundle_folder), "--out", str(root)]
    line += ["--page", str(root / "docs" / "benchmarks.md"), "--flags", *FLAGS]
    done = subprocess.run(line, capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["page"] == str(root / "docs" / "benchmarks.md")
    assert all(Path(path).is_file() for path in told["written"])
    return root


def record(results: Path, folder: str) -> dict:
    return json.loads((results / folder / f"{folder.split('-')[0]}.json").read_text())


def page_of(results: Path) -> str:
    return (results / "docs" / "benchmarks.md").read_text()


def test_ratios_are_those_of_the_rows_and_each_of_ours_meets_each_other(results):
    found = record(results, "peers")
    rows = {row["name"]: row for row in found["rows"]}
    ours = [name for name, row in rows.items() if row["ours"]]
    others = [name for name, row in rows.items() if not row["ours"]]
    assert len(others) == 6
    assert {(ratio["ours"], ratio["peer"]) for ratio in found["ratios"]} == {(a, b) for a in ours for b in others}
    for ratio in found["ratios"]:
        mine, other = rows[ratio["ours"]], rows[ratio["peer"]]
        assert ratio["throughput"] == pytest.approx(mine["clips_per_second"] / other["clips_per_second"])
        assert ratio["latency"] == pytest.approx(other["p50_ms"] / mine["p50_ms"])
        assert ratio["rest_latency"] == pytest.approx(other["rest_p50_ms"] / mine["rest_p50_ms"])
    assert found["not_measured"] == {}


def test_each_peer_states_what_it_computes(results):
    rows = {row["name"]: row for row in record(results, "peers")["rows"]}
    # Counted in ONNX graphs and by PyTorch: the same network is the same work.
    same = [row for row in rows.values() if row["network"] == "yamnet-compact"]
    assert len(same) >= 4
    assert len({row["network_macs"] for row in same}) == len({row["layers"] for row in same}) == 1
    assert {row["windows"] for row in same} == {1}
    counted = {row["front_end_macs"] for row in same} - {None}
    assert len(counted) == 1, "LogMel in PyTorch and in the graph"
    vggish, other = rows["torchvggish"], rows["torch-vggish-yamnet, vggish"]
    assert vggish["network_macs"] == other["network_macs"] > 800e6
    assert (vggish["layers"], vggish["windows"], vggish["resampler"]) == (9, 1, "resampy kaiser_best")
    yamnet = rows["torch-vggish-yamnet, yamnet"]
    assert yamnet["layers"] == 28
    assert yamnet["network_macs"] == pytest.approx(69e6, rel=0.02)  # the 69.2 million of YAMNet's own README


def test_only_the_same_weights_are_compared_and_they_agree(results):
    for row in record(results, "peers")["rows"]:
        if row["ours"]:
            assert row["worst_cosine"] > 1 - {"fp32": 1e-6, "bf16": 1e-3}[row["precision"]]
        elif row["name"].startswith("librosa"):
            assert 0.99 < row["worst_cosine"] < 1.0  # its mel filters are others
        else:
            assert (row["worst_cosine"], row["weights"]) == (None, "untrained")
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["n"] == 2 * 5  # the last five of each row
        assert row["rest_p50_ms"] > 0


def test_training_times_are_those_of_its_rates(results):
    rows = {row["stage"]: row for row in record(results, "training")["rows"]}
    assert list(rows) == ["decode", "log-mel", "windows", "step", "epoch"]
    assert rows["windows"]["plain_per_second"] is None
    for stage, row in rows.items():
        assert row["ours_per_second"] > 0
        if stage != "windows":
            assert row["times"] == pytest.approx(row["ours_per_second"] / row["plain_per_second"])


def test_achieved_flops_follow_from_the_graph_and_the_time(results):
    found = record(results, "efficiency")
    assert found["peak_gflops"] == max(found["peaks_gflops"].values())
    assert {row["part"] for row in found["rows"]} == {"front end", "network"}
    for row in found["rows"]:
        assert row["gflops"] == pytest.approx(2 * row["macs"] / 1e6 / row["p50_ms"])
        assert row["share_of_peak"] == pytest.approx(row["gflops"] / found["peak_gflops"])


def test_cost_and_memory_are_told_for_each_number_of_clips(results):
    found = record(results, "scaling")
    assert [(row["way"], row["clips"]) for row in found["rows"]] == [
        (way, clips) for way in ("embed_files", "serving.embed") for clips in (2, 5)
    ]
    for row in found["rows"]:
        assert row["ms_a_clip"] == pytest.approx(1000 * row["seconds"] / row["clips"])
        assert 50 < row["most_mb"] < 5_000


def test_growth_is_of_the_last_row_over_the_first():
    rows = [ScalingRow("embed_files", n, n * s, 1000 * s, 1 / s, mb) for n, s, mb in ((10, 1, 100), (100, 2, 150))]
    rows += [ScalingRow("serving.embed", 10, 10, 1000, 1, None)]
    assert growth(rows) == {
        "embed_files": {"time_a_clip": 2.0, "memory": 1.5},
        "serving.embed": {"time_a_clip": 1.0, "memory": None},
    }


def test_the_filter_bank_hardly_moves_embeddings_from_where_soxrs_best_quality_puts_them(results):
    rows = {row["name"]: row for row in record(results, "resamplers")["rows"]}
    assert list(rows) == ["filter bank", "soxr VHQ", "soxr HQ", "soxr MQ", "soxr LQ"]
    assert all(row["ms"] > 0 for row in rows.values())
    assert rows["soxr VHQ"]["worst"] < 1e-12
    assert rows["filter bank"]["worst"] < 1e-6
    assert rows["filter bank"]["worst"] < rows["soxr LQ"]["worst"]
    assert rows["filter bank"]["same_first"] == 1.0


def test_the_page_tells_the_numbers_of_the_run_and_its_csv_all_rows(results):
    page, docs = page_of(results), results / "docs"
    ours = [row for row in record(results, "peers")["rows"] if row["ours"]]
    mine = max(ours, key=lambda row: row["clips_per_second"])
    cells = [cell.strip() for cell in next(line for line in page.splitlines() if mine["name"] in line).split("|")]
    assert cells[2] == digits(mine["clips_per_second"])
    assert cells[3] == digits(mine["p50_ms"])
    assert f"is {record(results, 'load')['knee']['connections']} connections" in page
    pictures = [line.split("(")[-1].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert len(pictures) == 5
    for picture in pictures:
        assert (docs / picture).read_bytes().startswith(b"\x89PNG")
    assert ("onnxruntime-cuda (no GPU)" in page) == (not record(results, "peers")["machine"]["gpus"])
    lines = list(csv.DictReader((docs / "benchmarks.csv").open()))
    for name in ("peers", "resamplers", "load", "training", "efficiency", "scaling"):
        assert sum(line["study"] == name for line in lines) == len(record(results, name)["rows"])
    latency = next(results.glob("latency-*")).name
    assert sum(line["study"] == latency for line in lines) == len(record(results, latency)["summaries"])
    collected = json.loads((docs / "benchmarks.json").read_text())
    assert collected["scaling"]["rows"] == record(results, "scaling")["rows"]


def test_the_committed_page_and_csv_are_those_of_the_committed_json(tmp_path):
    committed = ROOT / "docs" / "results" / "benchmarks.md"
    records = json.loads(committed.with_suffix(".json").read_text())
    written = write_results(records, tmp_path / "benchmarks.md")
    assert {path.name for path in written} == {path.name for path in committed.parent.glob("benchmarks*")}
    for suffix in (".md", ".csv", ".json"):
        assert (tmp_path / "benchmarks").with_suffix(suffix).read_text() == committed.with_suffix(suffix).read_text()


@pytest.fixture
def committed() -> dict:
    return json.loads((ROOT / "docs" / "results" / "benchmarks.json").read_text())


def test_a_page_is_not_written_from_what_is_no_record(committed):
    committed["load"] = {"abuse": {}, "measured_at": "", "machine": committed["load"]["machine"]}
    with pytest.raises(DataError, match=r"load: not the record of a benchmark \(no notes, rows\)"):
        collect_records(committed)


def test_records_of_two_machines_make_no_page(committed):
    committed["scaling"]["machine"]["cpu"] = "Some Old Xeon"
    with pytest.raises(DataError, match=r"of 2 machines \(peers: .*; scaling: Some Old Xeon.*\); run all"):
        collect_records(committed)


def test_the_page_is_of_this_run_alone(committed, bundle_folder, tmp_path, monkeypatch, capsys):
    """Folders that an earlier run has left, with another bundle or on another machine, are not on it."""
    old = tmp_path / "bench" / "latency-old"
    old.mkdir(parents=True)
    latency = committed["latency-vggish"]
    foreign = latency["machine"] | {"cpu": "Some Old Xeon"}
    (old / "latency.json").write_text(json.dumps(latency | {"machine": foreign}))

    @contextmanager
    def served(bundle):
        yield "http://127.0.0.1:1"

    def run_benchmark(words):
        return latency if words[0] == "latency" else committed[words[0]]

    monkeypatch.setattr("benchmarks.suite.served", served)
    monkeypatch.setattr("benchmarks.suite.run_benchmark", run_benchmark)
    committed["peers"]["ratios"] = []
    page = tmp_path / "page.md"
    assert main([str(bundle_folder), "--out", str(tmp_path / "bench"), "--page", str(page)]) == 0
    assert {name for name in json.loads(page.with_suffix(".json").read_text()) if name.startswith("latency")} == {
        f"latency-{bundle_folder.name}"
    }


def test_every_program_is_planned_for_every_bundle():
    options = Options((Path("a/x"), Path("b/y")), recordings=Path("sounds"), flags=("latency --repeats 3",))
    lines = plan_runs(options)
    assert list(lines) == [
        "peers", "latency-x", "latency-y", "resamplers", "load", "training", "efficiency", "scaling"
    ]  # fmt: skip
    assert lines["peers"][:3] == ["peers", "a/x", "b/y"]
    assert lines["latency-y"][:2] == ["latency", "b/y"]
    assert lines["latency-y"][-4:] == ["--repeats", "3", "--out", "runs/bench/latency-y"]
    assert [name for name, words in lines.items() if "--recordings" not in words] == ["efficiency"]
    with pytest.raises(UsageError, match="two of one name"):
        plan_runs(Options((Path("a/x"), Path("b/x"))))
    for wrong in ("speed --repeats 3", "", " "):
        with pytest.raises(UsageError, match=f"--flags: got '{wrong}'; wanted one of peers"):
            plan_runs(Options((Path("a"),), flags=(wrong,)))


def test_a_bundle_that_is_none_ends_it_before_anything_is_measured(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "out"), "--page", str(tmp_path / "page.md")]) == 2
    assert "manifest.json" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--page {tmp}", "--page: got {tmp}; wanted the path of a page"),
        ("--page {tmp}/page.csv", "--page: got {tmp}/page.csv; wanted the path of a page"),
        ("--out /proc", "--out: /proc cannot be written"),
        ("--recordings {tmp}/absent", "--recordings: {tmp}/absent: no such folder"),
    ],
)
def test_a_wrong_path_ends_it_before_anything_is_measured(bundle_folder, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.setattr("benchmarks.suite.run_benchmark", lambda words: pytest.fail("it measured"))
    given = ["--page", str(tmp_path / "page.md"), "--out", str(tmp_path / "out"), *words.format(tmp=tmp_path).split()]
    assert main([str(bundle_folder), *given]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "busy" not in line]
    assert line.startswith(f"error: {message.format(tmp=tmp_path)}")
