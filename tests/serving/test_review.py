"""Which sounds of a library a person is asked about, and how the answers are taught."""

import csv
import json
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from demo.bundle_choice import FROM_SCRATCH, SHIPPED
from serving.embed import main as embed
from serving.embedder import Embedder
from serving.review import main
from serving.teach import main as teach
from serving.teaching.embedded_library import EmbeddedLibrary
from serving.teaching.review_choice import choose_rows, uncertainties
from serving.teaching.stretches import Stretches
from serving.zeroshot import ZeroShot, unit_rows
from tests.conftest import RATE_HZ, small_sound
from tests.small_bundle import small_zeroshot

KINDS = ("tone", "noise", "clicks")


@pytest.fixture(scope="module")
def recordings_folder(tmp_path_factory) -> Path:
    """Three recordings of five windows each, one kind of sound in each, and one silent recording."""
    folder = tmp_path_factory.mktemp("night")
    for seed, kind in enumerate(KINDS):
        soundfile.write(folder / f"{kind}.wav", small_sound(kind, np.random.default_rng(seed), 5.0), RATE_HZ)
    soundfile.write(folder / "silence.wav", np.zeros(3 * RATE_HZ), RATE_HZ)
    return folder


@pytest.fixture(scope="module")
def library(recordings_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("library") / "library.parquet"
    assert embed([str(SHIPPED), str(recordings_folder), "--per", "window", "--out", str(out)]) == 0
    return out


def fails(capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    return told.err.strip().splitlines()[-1]


def test_the_list_has_windows_without_labels_that_are_not_silent(library, recordings_folder, tmp_path):
    out = tmp_path / "a new" / "folder" / "review.csv"
    assert main([str(library), "--bundle", str(SHIPPED), "--top", "6", "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 6
    assert len({(row["file"], row["start"]) for row in rows}) == 6
    for row in rows:
        assert Path(row["file"]).parent == recordings_folder
        assert not row["file"].endswith("silence.wav")
        assert 0 <= float(row["start"]) < float(row["end"]) <= 5.0
        assert row["label"] == ""
        assert row["guess"]
        assert 0 < float(row["probability"]) <= 1


def test_a_label_without_a_known_word_is_told_and_the_others_are_guessed(library, capsys):
    if not Embedder.load(SHIPPED).labels.knows_text:
        pytest.skip("the packages of the text model are not installed")
    arguments = [str(library), "--bundle", str(SHIPPED), "--top", "3"]
    assert main([*arguments, "--labels", "zzyx, rain, siren"]) == 0
    told = capsys.readouterr()
    assert "warning: zzyx: no word of it is known" in told.err
    assert {row["guess"] for row in csv.DictReader(told.out.splitlines()[:-1])} <= {"rain", "siren"}
    assert "knows none of its words" in fails(capsys, *arguments, "--labels", "zzyx")


def test_one_label_alone_is_no_guess_worth_much(library, capsys):
    assert main([str(library), "--bundle", str(SHIPPED), "--top", "1", "--labels", "rain"]) == 0
    assert "warning: one label alone is the guess for every sound" in capsys.readouterr().err


def test_stdout_is_the_list_with_the_json_after_it(library, capsys):
    assert main([str(library), "--bundle", str(SHIPPED), "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "file,start,end,label,guess,probability"
    assert len(lines) == 4
    assert json.loads(lines[-1])["rows"] == 2


def test_a_filled_list_is_taught_and_not_asked_about_again(library, tmp_path, capsys):
    out = tmp_path / "review.csv"
    assert main([str(library), "--bundle", str(SHIPPED), "--top", "8", "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    for row in rows[:-1]:
        row["label"] = f"my {Path(row['file']).stem}"
    with out.open("w", newline="") as file:
        lines = csv.DictWriter(file, rows[0])
        lines.writeheader()
        lines.writerows(rows)
    capsys.readouterr()
    assert teach([str(SHIPPED), str(out), "--out", str(tmp_path / "mine")]) == 0
    taught = json.loads(capsys.readouterr().out.splitlines()[-1])["taught"]
    assert sum(each["examples"] for each in taught.values()) == 7  # the last row has no label
    again = tmp_path / "again.csv"
    words = ",".join(taught)
    assert main([str(library), "--bundle", str(tmp_path / "mine"), "--labels", words, "--out", str(again)]) == 0
    new = {(row["file"], row["start"]) for row in csv.DictReader(again.open())}
    assert new
    assert not new & {(row["file"], row["start"]) for row in rows[:-1]}


def test_a_sound_that_lies_mostly_in_what_was_taught_is_not_asked_about_again(
    library, recordings_folder, tmp_path, capsys
):
    table, out = tmp_path / "list.csv", tmp_path / "review.csv"
    tone, noise = recordings_folder / "tone.wav", recordings_folder / "noise.wav"
    # Windows begin every 0.96 s. The first tone holds one and most of another, the second tone less than half of one.
    rows = [f"{tone},0.9,2.5,my tone", f"{tone},4,4.4,my tone", f"{noise},,,my noise"]
    table.write_text("\n".join(["file,start,end,label", *rows]))
    assert teach([str(SHIPPED), str(table), "--out", str(tmp_path / "mine")]) == 0
    assert main([str(library), "--bundle", str(tmp_path / "mine"), "--top", "20", "--out", str(out)]) == 0
    asked = [(Path(row["file"]).stem, round(float(row["start"]), 2)) for row in csv.DictReader(out.open())]
    assert sorted(start for name, start in asked if name == "tone") == [0, 2.88, 3.84]
    assert {name for name, _ in asked} == {"tone", "clicks"}


def test_sounds_of_earlier_lists_are_not_asked_about_again(library, tmp_path):
    seen: set[tuple[str, str]] = set()
    lists: list[str] = []
    for number in range(3):
        out = tmp_path / f"{number}.csv"
        words = [str(library), "--bundle", str(SHIPPED), "--top", "3", "--out", str(out)]
        assert main([*words, *(["--reviewed", *lists] if lists else [])]) == 0
        rows = {(row["file"], row["start"]) for row in csv.DictReader(out.open())}
        assert len(rows) == 3
        assert not rows & seen
        seen |= rows
        lists.append(str(out))
        out.write_text(out.read_text().replace(",", ";"))  # as a spreadsheet may save it


def test_sounds_are_known_by_their_share_in_all_stretches_of_their_recording():
    rng = np.random.default_rng(2)
    starts, lengths = rng.uniform(0, 60, 40), rng.uniform(0, 1.5, 40)
    listed = [("a", start, start + length) for start, length in zip(starts, lengths, strict=True)]
    stretches = Stretches([*listed, ("a", 7.0, 7.0), ("a", 9.0, 5.0), ("b", 58.0, float("inf"))])
    at = np.arange(0, 62, 0.01)
    known = np.any([(start <= at) & (at < end) for _, start, end in listed], axis=0)
    for start in rng.uniform(0, 60, 500):
        share = known[(start <= at) & (at < start + 1)].mean()
        if abs(share - 0.5) > 0.05:
            assert stretches.hold("a", start, start + 1) == (share > 0.5)
    assert stretches.hold("b", 60.0, 61.0)
    assert not stretches.hold("b", 57.0, 58.5)
    assert not stretches.hold("c", 60.0, 61.0)
    assert not stretches.hold("a", 1.0, 1.0)


def test_a_large_library_with_many_known_sounds_takes_seconds(tmp_path, monkeypatch):
    n = 20_000
    starts = np.arange(n, dtype=float)
    rows = np.zeros((n, 128), np.float32)
    library = EmbeddedLibrary(tmp_path, ["a.wav", "b.wav"] * (n // 2), starts, starts + 1, rows, ["12"] * n)
    resolved: list[Path] = []
    real = Path.absolute
    monkeypatch.setattr(Path, "absolute", lambda self: resolved.append(self) or real(self))
    began = time.process_time()
    known = library.listed(Stretches((str(tmp_path / "a.wav"), at, at + 0.6) for at in starts.tolist()))
    assert time.process_time() - began < 10  # each row with each stretch: minutes
    assert known.tolist() == [True, False] * (n // 2)
    assert len(resolved) == 2
    assert not library.listed(Stretches([])).any()
    assert not library.among([]).any()
    assert len(resolved) == 2


def test_rows_scored_in_blocks_are_chosen_as_if_scored_at_once(monkeypatch):
    shipped = Embedder.load(SHIPPED).zeroshot
    rows = np.random.default_rng(4).standard_normal((300, 128)).astype(np.float32)
    at_once = choose_rows(shipped, rows[:250], 20, rows[250:])
    monkeypatch.setattr("serving.teaching.review_choice.BLOCK_ROWS", 7)
    assert choose_rows(shipped, rows[:250], 20, rows[250:]) == at_once


def test_the_scores_of_many_rows_take_no_more_memory_than_those_of_some():
    shipped = Embedder.load(SHIPPED).zeroshot
    rows = np.random.default_rng(4).standard_normal((40_000, 128)).astype(np.float32)
    tracemalloc.start()
    try:
        assert len(uncertainties(shipped, rows)) == len(rows)
        assert tracemalloc.get_traced_memory()[1] < 15_000_000  # at once: 1 kB a row
    finally:
        tracemalloc.stop()


def test_the_chosen_rows_are_spread_over_the_kinds_of_sound():
    """Of three clusters, one of them ten times as large, each is asked about."""
    rng = np.random.default_rng(0)
    centres = unit_rows(rng.standard_normal((3, 8)).astype(np.float32))
    sizes = (200, 20, 20)
    of = np.repeat(np.arange(3), sizes)
    rows = unit_rows(centres[of] + 0.05 * rng.standard_normal((240, 8)).astype(np.float32))
    eye = np.eye(8, dtype=np.float32)
    texts = unit_rows(rng.standard_normal((3, 8)).astype(np.float32))
    zeroshot = ZeroShot(np.zeros(8, np.float32), eye, ["a", "b", "c"], texts, np.zeros(3, bool), 10.0)
    chosen = choose_rows(zeroshot, rows, 3)
    assert sorted(of[chosen]) == [0, 1, 2]
    assert len(set(choose_rows(zeroshot, rows, 240))) == 240
    assert len(choose_rows(zeroshot, rows, 1000)) == 240
    left = choose_rows(zeroshot, rows[of != 0], 2, rows[of == 0][:3])
    assert sorted(of[of != 0][left]) == [1, 2]


def test_the_uncertainty_is_that_of_the_ranking():
    zeroshot = replace(small_zeroshot(), seen=np.array([True, True, False]), balanced=True, offset=0.5, temperature=2.0)
    rows = np.random.default_rng(0).standard_normal((5, 128)).astype(np.float32)
    shares = np.array([[share for _, share in zeroshot.rank(row)] for row in rows])
    np.testing.assert_allclose(uncertainties(zeroshot, rows), -(shares * np.log(shares)).sum(axis=1), rtol=1e-4)


def test_wrong_libraries_and_flags_are_refused_in_one_line(library, tmp_path, capsys):
    own, other = (
        json.loads((bundle / "manifest.json").read_text())["embedding_space"][:16] for bundle in (SHIPPED, FROM_SCRATCH)
    )
    assert f"is of embedding space {own}, the bundle of {other}" in fails(capsys, library, "--bundle", FROM_SCRATCH)
    assert "no such file" in fails(capsys, tmp_path / "gone.parquet", "--bundle", SHIPPED)
    (tmp_path / "text.parquet").write_text("no parquet")
    assert "cannot be read" in fails(capsys, tmp_path / "text.parquet", "--bundle", SHIPPED)
    assert "--top: got 0" in fails(capsys, library, "--bundle", SHIPPED, "--top", "0")
    (tmp_path / "there.csv").touch()
    assert "exists already" in fails(capsys, library, "--bundle", SHIPPED, "--out", tmp_path / "there.csv")
    assert "more than once" in fails(capsys, library, "--bundle", SHIPPED, "--labels", "dog,Dog")
    assert "is no list of this command" in fails(
        capsys, library, "--bundle", SHIPPED, "--reviewed", tmp_path / "gone.csv"
    )


def test_a_silent_library_is_refused(tmp_path, capsys):
    (tmp_path / "night").mkdir()
    soundfile.write(tmp_path / "night" / "silence.wav", np.zeros(RATE_HZ), RATE_HZ)
    out = tmp_path / "library.parquet"
    assert embed([str(SHIPPED), str(tmp_path / "night"), "--out", str(out)]) == 0
    assert "all its rows are silent" in fails(capsys, out, "--bundle", SHIPPED)
