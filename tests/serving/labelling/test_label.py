"""A folder's recordings become tables of times and labels that other programs open."""

import csv
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
import soundfile

from demo.labels.typed_labels import choose_labels as typed_in_the_demo
from serving.doctor.bundle_check import examine_bundle
from serving.embed import main as embed
from serving.embedder import Embedder
from serving.errors import LabelError
from serving.label import main
from serving.labelling.label_source import LabelSource, read_label_file, read_label_source
from serving.teaching.example_sources import read_examples
from tests.conftest import RATE_HZ, small_sound
from tests.interrupted_jobs import interrupted_at
from tests.talking_bundle import write_talking_bundle

ROOT = Path(__file__).parents[3]
WINDOW_S, HOP_S = 4.815, 4.8
EACH_S = 2 * HOP_S


def write_night(path: Path, kinds: tuple[str, ...], seed: int = 1) -> None:
    """A recording of sounds of two windows each; "zeros" is digital silence."""
    rng = np.random.default_rng(seed)
    sounds = [
        np.zeros(round(EACH_S * RATE_HZ)) if kind == "zeros" else small_sound(kind, rng, EACH_S) for kind in kinds
    ]
    for sound in sounds:
        sound[: round((WINDOW_S - HOP_S) * RATE_HZ)] = 0  # which the window before hears too
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.concatenate(sounds), RATE_HZ)


@pytest.fixture(scope="module")
def card(tmp_path_factory) -> Path:
    """A recorder's card: two recordings with times in their names, one that is silent, and what is no recording."""
    card = tmp_path_factory.mktemp("card")
    write_night(card / "a" / "20190318_235955.wav", ("tone", "zeros", "clicks", "zeros"))
    write_night(card / "b.flac", ("noise", "tone"), 2)
    write_night(card / "silent.wav", ("zeros",))
    (card / "cut.wav").write_bytes(b"RIFF")
    (card / "._b.flac").write_bytes(b"macOS")
    (card / "System Volume Information").mkdir()
    (card / "System Volume Information" / "IndexerVolumeGuid").write_bytes(b"Windows")
    return card


def label(bundle: Path, card: Path, out: Path, *more: str) -> int:
    return main([str(bundle), str(card), "--out", str(out), "--threads", "2", *more])


@pytest.fixture(scope="module")
def table(bundle_folder, card, tmp_path_factory) -> pandas.DataFrame:
    """The CSV table of an uninterrupted run, as pandas reads it."""
    out = tmp_path_factory.mktemp("table") / "table.csv"
    assert label(bundle_folder, card, out) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ["table.csv", "table.errors.csv"]
    with out.with_name("table.errors.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["cut.wav"]
    return pandas.read_csv(out)


def test_each_sound_is_found_at_its_time_and_silence_gets_no_label(table):
    found = [(row.path, row.label, round(row.start_s, 1), round(row.end_s, 1)) for row in table.itertuples()]
    assert found == [
        ("a/20190318_235955.wav", "tone", 0.0, 9.6),
        ("a/20190318_235955.wav", "clicks", 19.2, 28.8),
        ("b.flac", "noise", 0.0, 9.6),
        ("b.flac", "tone", 9.6, 19.2),
    ]
    assert (table.windows == 2).all()
    assert table.probability.between(0.7, 1).all()
    assert table.similarity.between(-1, 1).all()


def test_rows_have_the_times_of_day_of_what_is_heard(table):
    first, second, *others = table.itertuples()
    assert (first.recorded_at, first.recorded_from) == ("2019-03-18T23:59:55.000", "name")
    assert first.start_at == "2019-03-18T23:59:55.000"
    assert second.start_at == "2019-03-19T00:00:14.200"
    assert pandas.to_datetime(second.end_at) - pandas.to_datetime(second.start_at) == pandas.Timedelta(
        seconds=round(second.end_s - second.start_s, 3)
    )
    assert all(math.isnan(other.recorded_at) and math.isnan(other.start_at) for other in others)


def test_a_row_is_what_the_embedder_says_of_its_windows(table, card, bundle_folder):
    embedder = Embedder.load(bundle_folder)
    with embedder.stream(card / "b.flac") as stream:
        rows = np.concatenate([block.rows for block in stream])
    shares = dict(embedder.zeroshot.rank(rows[0])), dict(embedder.zeroshot.rank(rows[1]))
    assert table.probability[2] == pytest.approx(max(share["noise"] for share in shares), abs=1e-5)


def test_parquet_and_csv_hold_the_same(table, bundle_folder, card, tmp_path):
    assert label(bundle_folder, card, tmp_path / "table.parquet") == 0
    same = pandas.read_parquet(tmp_path / "table.parquet")
    assert list(same.columns) == list(table.columns)
    for name in same.columns:
        if same[name].dtype == np.float64:  # CSV holds microseconds and millionths
            np.testing.assert_allclose(same[name], table[name], atol=1e-6)
        else:
            assert same[name].astype(object).fillna("").tolist() == table[name].astype(object).fillna("").tolist(), name


def test_windows_can_stay_apart_and_have_several_labels(bundle_folder, card, tmp_path):
    out = tmp_path / "table.csv"
    assert label(bundle_folder, card, out, "--no-merge", "--top", "3", "--probability", "0") == 0
    rows = pandas.read_csv(out)
    windows = rows.groupby(["path", "start_s"])
    assert windows.ngroups == 8
    assert (windows.size() == 3).all()
    np.testing.assert_allclose(windows.probability.sum(), 1, atol=1e-5)
    assert (windows.probability.max() == windows.probability.first()).all()


def test_overlapping_windows_of_one_label_are_one_row(bundle_folder, card, tmp_path):
    out = tmp_path / "table.csv"
    assert label(bundle_folder, card, out, "--hop-seconds", "1.2") == 0
    rows = pandas.read_csv(out)
    for _, same in rows.groupby(["path", "label"]):
        assert (same.start_s.to_numpy()[1:] > same.end_s.to_numpy()[:-1]).all()
    ends = rows.groupby("path").end_s.max()
    assert ends["b.flac"] <= 19.2 + 1e-6


def test_thresholds_leave_out_what_is_less_similar_or_less_probable(bundle_folder, card, tmp_path):
    every = ("--no-merge", "--top", "3")
    assert label(bundle_folder, card, tmp_path / "all.csv", *every, "--probability", "0", "--threshold", "-1") == 0
    rows = pandas.read_csv(tmp_path / "all.csv")
    for name in ("probability", "similarity"):
        least = rows[name].sort_values(ascending=False).iloc[[7, 8]].mean()  # eight windows, three labels each
        flag = "--threshold" if name == "similarity" else "--probability"
        assert label(bundle_folder, card, tmp_path / f"{name}.csv", *every, flag, str(least)) == 0
        left = pandas.read_csv(tmp_path / f"{name}.csv")
        assert len(left) == 8
        pandas.testing.assert_frame_equal(left, rows[rows[name] >= least].reset_index(drop=True))


def test_a_threshold_of_minus_one_is_none(bundle_folder, card, tmp_path, capsys):
    assert label(bundle_folder, card, tmp_path / "table.csv", "--threshold", "-1") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["threshold"], told["probability"]) == (None, 0.7)


@pytest.mark.parametrize("per_recording", [False, True])
def test_ravens_tables_follow_its_rules(table, bundle_folder, card, tmp_path, per_recording):
    out = tmp_path / "raven.txt"
    flags = ("--per-recording",) if per_recording else ()
    assert label(bundle_folder, card, out, "--format", "raven", *flags) == 0
    paths = sorted(out.rglob("*.selections.txt")) if per_recording else [out]
    tables = [pandas.read_csv(path, sep="\t") for path in paths]
    assert len(tables) == (3 if per_recording else 1)  # also for a recording without a label
    for rows in tables:
        assert list(rows.columns[:7]) == [
            *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
        ]
        assert rows["Selection"].tolist() == list(range(1, len(rows) + 1))
        assert (rows["View"] == "Spectrogram 1").all()
        assert (rows["Channel"] == 1).all()
        assert (rows["Begin Time (s)"] < rows["End Time (s)"]).all()
        assert (rows["Low Freq (Hz)"] == 125).all()
        assert (rows["High Freq (Hz)"] == 7500).all()
    rows = pandas.concat(tables)
    assert rows["Annotation"].tolist() == table.label.tolist()
    np.testing.assert_allclose(rows["Score"].astype(float), table.probability, atol=1e-6)
    np.testing.assert_allclose(rows["File Offset (s)"].astype(float), table.start_s, atol=1e-6)
    assert rows["Begin Path"].tolist() == [str(card / path) for path in table.path]
    assert rows["Begin File"].tolist() == [Path(path).name for path in table.path]
    # On the timeline of a sequence of files the second recording begins where the first one ends.
    begins = table.start_s + (0 if per_recording else np.repeat([0, 4 * EACH_S], 2))
    np.testing.assert_allclose(rows["Begin Time (s)"].astype(float), begins, atol=1e-6)
    assert rows["Recorded Begin"].fillna("").tolist() == table.start_at.fillna("").tolist()


def test_audacitys_labels_follow_its_rules(table, bundle_folder, card, tmp_path):
    assert label(bundle_folder, card, tmp_path / "tracks", "--format", "audacity", "--per-recording") == 0
    path = tmp_path / "tracks" / "a" / "20190318_235955.wav.labels.txt"
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert [(float(start), float(end)) for start, end, _ in lines] == [
        (pytest.approx(row.start_s), pytest.approx(row.end_s)) for row in table[:2].itertuples()
    ]
    assert all(re.fullmatch(r"\d+\.\d{6}", number) for line in lines for number in line[:2])
    assert [text for *_, text in lines] == ["tone", "clicks"]
    assert (tmp_path / "tracks" / "silent.wav.labels.txt").read_text() == ""
    assert label(bundle_folder, card, tmp_path / "all.txt", "--format", "audacity") == 0
    *_, last = (tmp_path / "all.txt").read_text().splitlines()
    assert float(last.split("\t")[0]) == pytest.approx(4 * EACH_S + EACH_S)
    assert last.endswith("\ttone b.flac")


@pytest.mark.parametrize("form", ["raven", "audacity"])
def test_who_opens_a_sequence_is_told_to_leave_out_what_could_not_be_used(bundle_folder, card, tmp_path, capfd, form):
    advice = "leave the files that could not be used out of the sequence"
    assert label(bundle_folder, card, tmp_path / "all.txt", "--format", form) == 0
    assert advice in capfd.readouterr().err
    assert label(bundle_folder, card, tmp_path / "tracks", "--format", form, "--per-recording") == 0
    assert label(bundle_folder, card, tmp_path / "table.csv") == 0
    assert advice not in capfd.readouterr().err


def test_labels_and_descriptions_of_a_file_are_found_by_the_descriptions(bundle_folder, card, tmp_path):
    talking = write_talking_bundle(bundle_folder, tmp_path / "talking")
    (tmp_path / "mine.csv").write_text(
        "label,description\n=kettle,whistle\nsnake,hiss\nclicks,\n", encoding="utf-8-sig"
    )
    assert label(talking, card, tmp_path / "table.csv", "--labels", str(tmp_path / "mine.csv")) == 0
    rows = pandas.read_csv(tmp_path / "table.csv")
    # A cell that a spreadsheet would run gets an apostrophe.
    assert rows.label.tolist() == ["'=kettle", "clicks", "snake", "'=kettle"]


@pytest.mark.parametrize("class_texts", ["description", "name+description"])
def test_a_label_with_a_description_is_only_a_name(bundle_folder, card, tmp_path, class_texts):
    talking = write_talking_bundle(bundle_folder, tmp_path / "talking", class_texts)
    (tmp_path / "mine.csv").write_text("label,description\nZilpzalp,whistle\nwhistle,hiss\nhiss,ticking\n")
    assert label(talking, card, tmp_path / "table.csv", "--labels", str(tmp_path / "mine.csv")) == 0
    rows = pandas.read_csv(tmp_path / "table.csv")
    assert rows.label.tolist() == ["Zilpzalp", "hiss", "whistle", "Zilpzalp"]


@pytest.mark.parametrize(
    "rows",
    [
        "label;description\nZilpzalp;whistle\nMöwe;hiss\n",
        'Description\tLABEL\n"whistle"\tZilpzalp\nhiss\tMöwe\n',
        "label,description,note\nZilpzalp,whistle,heard\nMöwe,hiss,\n",
    ],
)
def test_a_spreadsheets_delimiter_and_order_of_columns_are_read(tmp_path, rows):
    (tmp_path / "mine.csv").write_text(rows, encoding="utf-8-sig")
    source = read_label_source(str(tmp_path / "mine.csv"), [])
    assert source == LabelSource(["Zilpzalp", "Möwe"], {"Zilpzalp": "whistle", "Möwe": "hiss"})


@pytest.mark.parametrize(
    "rows", ["label,description\nZilpzalp,whistle\n", "# mine\nDescription;Label\nwhistle;Zilpzalp\n"]
)
@pytest.mark.parametrize("name", ["mine.txt", "mine"])
def test_the_documented_columns_make_a_table_of_any_file(tmp_path, name, rows):
    (tmp_path / name).write_text(rows)
    assert read_label_source(f"@{tmp_path / name}", []) == LabelSource(["Zilpzalp"], {"Zilpzalp": "whistle"})
    assert read_label_file(tmp_path / name, "--descriptions").descriptions == {"Zilpzalp": "whistle"}


def test_a_comma_or_a_quote_in_a_first_line_makes_no_table(tmp_path):
    (tmp_path / "mine.txt").write_text('"dog" that barks, far away\ncat\n')
    assert read_label_source(str(tmp_path / "mine.txt"), []).labels == ['"dog" that barks, far away', "cat"]
    (tmp_path / "mine.txt").write_text(f"{'a' * 200_000}\n")
    with pytest.raises(LabelError, match="got one of 200000 characters"):
        read_label_source(str(tmp_path / "mine.txt"), [])


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0b", "\x0c"])
def test_only_line_ends_end_a_label(tmp_path, separator):
    for name, text in (
        ("mine.csv", f"label,description\ndog,short loud{separator}bursts\n"),
        ("mine.txt", f"short loud{separator}bursts\n"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(LabelError, match=r"got 'short loud.*bursts'; wanted printable text on one line"):
            read_label_source(str(tmp_path / name), [])


def test_two_labels_of_one_description_are_refused_by_their_names(bundle_folder, card, tmp_path, capsys):
    talking = write_talking_bundle(bundle_folder, tmp_path / "talking")
    (tmp_path / "mine.csv").write_text("label,description\nRotmilan,whistle\nclicks,\nTurmfalke,Whistle\n")
    assert label(talking, card, tmp_path / "table.csv", "--labels", str(tmp_path / "mine.csv")) == 2
    assert "descriptions: Rotmilan, Turmfalke are described by the same words" in capsys.readouterr().err


def test_a_comment_is_no_part_of_a_quoted_cell(tmp_path):
    (tmp_path / "mine.csv").write_text('# mine\nlabel,description\n# "old"\n"#1","hiss"\ndog,barks\n')
    source = read_label_source(str(tmp_path / "mine.csv"), [])
    assert source == LabelSource(["#1", "dog"], {"#1": "hiss", "dog": "barks"})
    (tmp_path / "mine.csv").write_text('label,description\ndog,"barks\n#2 and growls"\n')
    with pytest.raises(LabelError, match=r"got 'barks\\n#2 and growls'; wanted printable text on one line"):
        read_label_source(str(tmp_path / "mine.csv"), [])


def test_no_two_names_have_one_cell_and_each_is_read_again(bundle_folder, tmp_path):
    sounds = tmp_path / "sounds"
    for i, name in enumerate(("-x", "'-x", "''-x", "'x")):
        write_night(sounds / f"{name}.wav", ("tone",), i)
    flags = ("--threshold", "-1", "--probability", "0")
    assert label(bundle_folder, sounds, tmp_path / "table.csv", *flags) == 0
    rows = pandas.read_csv(tmp_path / "table.csv")
    assert set(rows.path) == {"'-x.wav", "''-x.wav", "'''-x.wav", "'x.wav"}
    assert {each.source for each in read_examples(tmp_path / "table.csv", sounds)} == set(sounds.iterdir())


def test_the_table_of_a_recording_with_a_long_name_has_a_shorter_one(bundle_folder, tmp_path):
    sounds, out = tmp_path / "sounds", tmp_path / "tables"
    for seed, last in enumerate("ab"):
        write_night(sounds / "night" / f"{122 * 'ä'}{last}.wav", ("tone",), seed)  # of 249 bytes
    flags = ("--per-recording", "--format", "raven", "--threshold", "-1", "--probability", "0")
    assert label(bundle_folder, sounds, out, *flags) == 0
    tables = list((out / "night").iterdir())
    assert len(tables) == 2
    assert all(len(table.name.encode()) <= 255 and table.name.endswith(".selections.txt") for table in tables)
    assert {each.source for each in read_examples(out, sounds)} == set((sounds / "night").iterdir())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("Art,Beschreibung\nSirene,a wailing alarm\n", "got the columns Art, Beschreibung; wanted"),
        ("Sirene;a wailing alarm\nHund;barks\n", "got the columns Sirene, a wailing alarm; wanted"),
        ("label\nDog, barking\n", "row 2: got 2 cells, but the first row has 1"),
        ("label,description\nDog,barks, and growls\n", "row 2: got 3 cells, but the first row has 2"),
        ('label,description\nDog,"barks\n', "cannot be read as CSV"),
        ("label,description\n,barks\n", "mine.csv, row 2: has no label"),
        ("# mine\nlabel,description\n\ndog,\n,barks\n", "mine.csv, row 5: has no label"),
    ],
)
def test_a_label_file_with_other_columns_is_refused(bundle_folder, card, tmp_path, capsys, rows, message):
    (tmp_path / "mine.csv").write_text(rows)
    assert label(bundle_folder, card, tmp_path / "table.csv", "--labels", str(tmp_path / "mine.csv")) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "table.csv").exists()


def test_a_recording_too_short_to_hear_has_a_warning_and_no_row_and_times_have_no_exponent(bundle_folder, tmp_path):
    card = tmp_path / "card"
    card.mkdir()
    soundfile.write(card / "one.wav", np.full(1, 0.5), RATE_HZ)
    soundfile.write(card / "short.wav", small_sound("tone", np.random.default_rng(1), 0.03), RATE_HZ)
    assert label(bundle_folder, card, tmp_path / "table.csv", "--probability", "0", "--threshold", "-1") == 0
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["start_s"], row["end_s"]) for row in rows] == [("short.wav", "0.000000", "0.030000")]
    assert "lasts only 0.1 ms, too short to hear" in (tmp_path / "table.errors.csv").read_text()


def test_channels_that_cancel_each_other_are_reported(bundle_folder, tmp_path):
    card = tmp_path / "card"
    card.mkdir()
    sound = small_sound("tone", np.random.default_rng(1), 5.0)
    quiet = np.random.default_rng(2).normal(size=len(sound)) * 1e-4
    soundfile.write(card / "reversed.wav", np.stack([sound, quiet - sound], axis=1), RATE_HZ)
    soundfile.write(card / "same.wav", np.stack([sound, sound], axis=1), RATE_HZ)
    soundfile.write(card / "one_side.wav", np.stack([sound, 0 * sound], axis=1), RATE_HZ)
    soundfile.write(card / "silent.wav", np.zeros((RATE_HZ, 2)), RATE_HZ)
    assert label(bundle_folder, card, tmp_path / "table.csv") == 0
    with (tmp_path / "table.errors.csv").open(newline="") as file:
        errors = {row["path"]: row["error"] for row in csv.DictReader(file)}
    assert list(errors) == ["reversed.wav"]
    assert re.search(
        r"the channels cancel each other: the mix is \d\d dB quieter than the channels", errors["reversed.wav"]
    )


def test_every_way_to_give_a_description_gives_the_same_vector(bundle_folder, tmp_path):
    embedder = Embedder.load(write_talking_bundle(bundle_folder, tmp_path / "talking", "name+description"))
    wanted = embedder.choose(["hiss"]).targets
    given = {"Zilpzalp": "hiss"}
    np.testing.assert_allclose(embedder.choose(["Zilpzalp"], given).targets, wanted, atol=1e-6)
    taught = embedder.teach({}, given)
    np.testing.assert_allclose(taught.choose(["Zilpzalp"]).targets, wanted, atol=1e-6)
    typed = typed_in_the_demo(embedder, ["Zilpzalp"], {"zilpzalp": "hiss"})
    np.testing.assert_allclose(typed.targets, wanted, atol=1e-6)
    taught.save(tmp_path / "taught")
    findings = {each.what: each for each in examine_bundle(tmp_path / "taught")}
    assert findings["text model"].state not in ("broken", "absent")


def test_other_labels_need_no_second_embedding(bundle_folder, card, tmp_path, monkeypatch):
    talking = write_talking_bundle(bundle_folder, tmp_path / "talking")
    kept = ("--embeddings", str(tmp_path / "kept.parquet"))
    assert label(talking, card, tmp_path / "one.csv", *kept) == 0

    def refuse(*_):
        raise AssertionError("a recording was opened again")

    with monkeypatch.context() as patched:
        patched.setattr(Embedder, "open_recording", refuse)
        assert label(talking, card, tmp_path / "two.csv", "--labels", "whistle, hiss, ticking", *kept) == 0
    words = {"tone": "whistle", "noise": "hiss", "clicks": "ticking"}
    one, two = (pandas.read_csv(tmp_path / name) for name in ("one.csv", "two.csv"))
    assert [words[name] for name in one.label] == two.label.tolist()


def test_an_update_embeds_only_what_is_new_and_replaces_the_table(bundle_folder, card, tmp_path, monkeypatch, capsys):
    mine = Path(shutil.copytree(card, tmp_path / "card"))
    kept = ("--embeddings", str(tmp_path / "kept.parquet"), "--update")
    assert label(bundle_folder, mine, tmp_path / "table.csv", *kept) == 0
    write_night(mine / "a" / "20190319_000030.wav", ("clicks",), 3)
    opened = []
    real = Embedder.open_recording
    monkeypatch.setattr(
        Embedder, "open_recording", lambda self, path, *rest: opened.append(path.name) or real(self, path, *rest)
    )
    assert label(bundle_folder, mine, tmp_path / "table.csv", *kept) == 0
    assert sorted(opened) == ["20190319_000030.wav", "cut.wav"]  # what could not be read is tried again
    rows = pandas.read_csv(tmp_path / "table.csv")
    assert rows.path.tolist() == sorted(rows.path)
    assert rows.start_at[2] == "2019-03-19T00:00:30.000"
    assert len(rows) == 5
    capsys.readouterr()
    (mine / "b.flac").unlink()
    assert label(bundle_folder, mine, tmp_path / "table.csv", *kept) == 0
    said = f"1 recording is no longer there; its rows were kept: {tmp_path / 'table.errors.csv'} names it"
    assert said in capsys.readouterr().err.splitlines()
    assert pandas.read_csv(tmp_path / "table.csv").equals(rows)


@pytest.mark.parametrize("flag", ["--update", "--overwrite"])
def test_an_interrupted_update_is_not_continued_without_the_flag(bundle_folder, card, tmp_path, capsys, flag):
    mine = Path(shutil.copytree(card, tmp_path / "card"))
    kept = tmp_path / "kept.parquet"
    command = (bundle_folder, mine, tmp_path / "table.csv", "--embeddings", str(kept))
    assert label(*command) == 0
    table, embeddings = (tmp_path / "table.csv").read_bytes(), kept.read_bytes()
    write_night(mine / "new.wav", ("clicks",), 3)
    write_night(mine / "new2.wav", ("clicks",), 4)
    with interrupted_at(1, files_per_part=1):
        assert label(*command, "--update") == 130
    capsys.readouterr()
    assert label(*command) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "an unfinished --update of" in line
    assert "give --update to go on with it, or --overwrite to begin anew" in line
    assert (tmp_path / "table.csv").read_bytes() == table
    assert kept.read_bytes() == embeddings
    assert label(*command, flag) == 0
    assert set(pandas.read_csv(tmp_path / "table.csv").path) == {
        "a/20190318_235955.wav",
        "b.flac",
        "new.wav",
        "new2.wav",
    }
    assert not kept.with_name("kept.parquet.parts").exists()


def test_a_job_that_began_without_the_table_does_not_replace_it_unasked(bundle_folder, card, tmp_path, capsys):
    kept, out = tmp_path / "kept.parquet", tmp_path / "table.csv"
    out.write_text("mine")
    with interrupted_at(1, files_per_part=1):
        windows = ("--out", str(kept), "--per", "window", "--threads", "2")
        assert embed([str(bundle_folder), str(card), *windows]) == 130
    command = (bundle_folder, card, out, "--embeddings", str(kept))
    assert label(*command) == 2
    assert "table.csv: exists already" in capsys.readouterr().err.splitlines()[-1]
    assert out.read_text() == "mine"
    with interrupted_at(1, files_per_part=1):
        assert label(*command, "--overwrite") == 130
    assert label(*command) == 0  # what began with the table's leave goes on
    assert len(pandas.read_csv(out)) == 4


def test_a_killed_run_continues_and_gives_the_same_table(bundle_folder, card, table, tmp_path, capsys):
    code = """
import sys, time
import serving.bulk.embed_folder, serving.bulk.resumable_job as resumable_job
from serving.label import main
serving.bulk.embed_folder.FILES_PER_PART = 1
save = resumable_job.ResumableJob.save
resumable_job.ResumableJob.save = lambda *given: (save(*given), time.sleep(0.5))[0]  # time to be killed
raise SystemExit(main(sys.argv[1:]))
"""
    out = tmp_path / "table.csv"
    arguments = [str(bundle_folder), str(card), "--out", str(out), "--threads", "2"]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.rglob("[0-9]*.parquet"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["files_done_before"] >= 2
    assert result["recorded_hours"] > 0
    pandas.testing.assert_frame_equal(pandas.read_csv(out), table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv", "table.errors.csv"]


def test_a_file_name_with_a_tab_or_a_line_break_stays_one_line(bundle_folder, card, tmp_path):
    (tmp_path / "card").mkdir()
    shutil.copy(card / "b.flac", tmp_path / "card" / "=a\tb\nc.flac")
    for form in ("raven", "audacity"):
        assert label(bundle_folder, tmp_path / "card", tmp_path / form, "--format", form) == 0
        lines = (tmp_path / form).read_text().splitlines()
        assert len({line.count("\t") for line in lines}) == 1
        assert len(lines) == 2 + (form == "raven")
    assert label(bundle_folder, tmp_path / "card", tmp_path / "table.csv") == 0
    assert set(pandas.read_csv(tmp_path / "table.csv").path) == {"'=a\tb\nc.flac"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--labels", "dog, tone"), "got dog"),
        (("--labels", "@{tmp}/absent.txt"), "absent.txt: cannot be read"),
        (("--labels", "absent.csv"), "absent.csv: cannot be read"),
        (("--labels", "{tmp}/empty.txt"), "it holds no label"),
        (("--labels", "{tmp}/bytes.txt"), "not UTF-8"),
        (("--labels", "tone, Tone"), "more than once"),
        (("--labels", ""), "no label"),
        (("--labels", "tone\x01, \x00rain"), "wanted printable text"),
        (("--threshold", "2"), "--threshold: got 2"),
        (("--probability", "nan"), "--probability: got nan"),
        (("--top", "0"), "--top: got 0"),
        (("--offset", "nan"), "--offset: got nan"),
        (("--hop-seconds", "0"), "error: --hop-seconds: got 0"),
        (("--workers", "0"), "error: --workers: got 0"),
        (("--update",), "--update: needs --embeddings"),
        (("--format", "xml"), "--format: got 'xml'; wanted one of audacity, csv, parquet, raven; see"),
        (("--threshold", "0,5"), "--threshold: got '0,5'; wanted a number with a decimal point; see"),
        (("--probability", "a'b"), '--probability: got "a\'b"; wanted a number'),
        (("--top", "x"), "--top: got 'x'; wanted a whole number; see"),
        (("--processes", "1.5"), "--processes: got '1.5'; wanted a whole number; see"),
        (("--format", "raven"), ".csv names the format csv"),
        (("--format", "csv", "--out", "{tmp}/new.parquet"), ".parquet names the format parquet"),
        (("--out", "{tmp}/table.txt"), ".csv or .parquet"),
        (("--out", "{tmp}/there.csv"), "exists already"),
    ],
)
def test_wrong_usage_is_one_line_and_leaves_nothing(bundle_folder, card, tmp_path, capsys, flags, message):
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "there.csv").write_text("mine")
    before = sorted(tmp_path.iterdir())
    given = [flag.format(tmp=tmp_path) for flag in flags]
    out = [] if "--out" in given else ["--out", str(tmp_path / "table.csv")]
    try:
        code = main([str(bundle_folder), str(card), *out, *given])
    except SystemExit as stop:  # the parser's own
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_embeddings_of_another_folder_or_hop_are_refused(bundle_folder, card, tmp_path, capsys):
    kept = ("--embeddings", str(tmp_path / "kept.parquet"))
    assert label(bundle_folder, card, tmp_path / "one.csv", *kept) == 0
    (tmp_path / "other").mkdir()
    for folder, flags, message in (
        (tmp_path / "other", (), "folder was"),
        (card, ("--hop-seconds", "2"), "hop seconds was"),
    ):
        for update in ((), ("--update",)):
            assert label(bundle_folder, folder, tmp_path / "two.csv", *kept, *flags, *update) == 2
            assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "two.csv").exists()


def last_json(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture
def kept(bundle_folder, card, tmp_path, capsys) -> tuple[Path, Path, dict]:
    """A card of its own, the finished file of its embeddings, and the JSON of the run that made the file."""
    mine = Path(shutil.copytree(card, tmp_path / "card"))
    embeddings = tmp_path / "kept.parquet"
    assert label(bundle_folder, mine, tmp_path / "first.csv", "--embeddings", str(embeddings)) == 0
    return mine, embeddings, last_json(capsys)


def test_taken_embeddings_give_the_fields_of_a_first_run_and_no_speed_that_nobody_measured(
    kept, bundle_folder, tmp_path, capsys
):
    mine, embeddings, first = kept
    assert label(bundle_folder, mine, tmp_path / "second.csv", "--embeddings", str(embeddings)) == 0
    captured = capsys.readouterr()
    second = json.loads(captured.out.splitlines()[-1])
    assert list(second) == list(first)
    assert (second["errors"], second["warnings"]) == (first["errors"], first["warnings"]) == (1, 0)
    assert (second["kept"], second["not_embedded"], second["changed"], second["missing"]) == (3, 0, 0, 0)
    unmeasured = ("files_per_s", "recorded_hours", "recorded_hours_per_s", "files_done_before")
    assert all(second[name] is None for name in unmeasured)
    assert second["seconds"] > 0
    assert "--update" not in captured.err  # nothing has changed; what could not be read is no news
    embeddings.with_name("kept.errors.csv").unlink()
    assert label(bundle_folder, mine, tmp_path / "third.csv", "--embeddings", str(embeddings)) == 0
    third = last_json(capsys)
    assert third["errors"] is third["warnings"] is None
    assert third["not_embedded"] == 1


def test_recordings_that_the_taken_embeddings_lack_are_told(kept, bundle_folder, tmp_path, capsys):
    mine, embeddings, _ = kept
    flags = ("--embeddings", str(embeddings), "--overwrite")
    write_night(mine / "=new.wav", ("clicks",), 3)
    assert label(bundle_folder, mine, tmp_path / "table.csv", *flags) == 0
    captured = capsys.readouterr()
    assert f"1 recording of {mine} is not in kept.parquet; --update adds it" in captured.err.splitlines()
    assert json.loads(captured.out.splitlines()[-1])["not_embedded"] == 1
    (mine / "silent.wav").unlink()
    write_night(mine / "b.flac", ("noise",), 2)
    assert label(bundle_folder, mine, tmp_path / "table.csv", *flags) == 0
    captured = capsys.readouterr()
    assert (
        f"1 recording of {mine} is not in kept.parquet, 1 recording of {mine} has another size or time than in "
        f"kept.parquet, 1 recording of kept.parquet is no longer in {mine}; --update adds or renews them"
    ) in captured.err.splitlines()
    result = json.loads(captured.out.splitlines()[-1])
    assert (result["not_embedded"], result["changed"], result["missing"]) == (1, 1, 1)


def test_a_recording_that_was_only_touched_is_told_until_an_update(kept, bundle_folder, tmp_path, capsys):
    mine, embeddings, _ = kept
    (mine / "b.flac").touch()
    for flag, told in (("--overwrite", 1), ("--update", 0), ("--overwrite", 0)):
        assert label(bundle_folder, mine, tmp_path / "table.csv", "--embeddings", str(embeddings), flag) == 0
        assert capsys.readouterr().err.count("has another size or time") == told


def test_the_folders_of_the_table_are_made_before_the_work(kept, bundle_folder, tmp_path, capsys, monkeypatch):
    mine, embeddings, _ = kept
    for name, flags in (("one", ()), ("two", ("--update",))):
        out = tmp_path / name / "sub" / "table.csv"
        assert label(bundle_folder, mine, out, "--embeddings", str(embeddings), *flags) == 0
        assert out.exists()
    new = tmp_path / "three" / "sub"
    real = Embedder.open_recording

    def open_recording(self, path, *rest):
        assert new.is_dir()
        return real(self, path, *rest)

    monkeypatch.setattr(Embedder, "open_recording", open_recording)
    assert label(bundle_folder, mine, new / "table.csv", "--embeddings", str(tmp_path / "other.parquet")) == 0


def test_messages_about_the_file_of_embeddings_name_its_flag(kept, bundle_folder, tmp_path, capsys):
    mine, embeddings, _ = kept
    assert label(bundle_folder, mine, tmp_path / "t.csv", "--embeddings", str(embeddings), "--hop-seconds", "2") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith("; give those again, or give another --embeddings")
    nowhere = Path("/proc/embeddings")  # which nobody can make
    assert label(bundle_folder, mine, tmp_path / "t.csv", "--embeddings", str(nowhere / "e.parquet")) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"error: --embeddings: {nowhere} cannot be written")


def test_a_full_disk_is_one_line_and_the_embeddings_are_kept(bundle_folder, card, table, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("serving.labelling.label_folder.write_one_table", full)
        assert label(bundle_folder, card, tmp_path / "table.csv") == 2
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
    assert label(bundle_folder, card, tmp_path / "table.csv") == 0
    assert "taking the embeddings" in capsys.readouterr().err
    pandas.testing.assert_frame_equal(pandas.read_csv(tmp_path / "table.csv"), table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv", "table.errors.csv"]


@pytest.fixture
def tables(tmp_path) -> Path:
    """What a folder of tables looks like."""
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "labels.json").write_text("{}")
    return tmp_path / "tables"


@pytest.mark.parametrize("flag", ["--overwrite", "--update"])
def test_a_folder_of_tables_that_holds_what_is_read_is_not_replaced(bundle_folder, card, tables, capsys, flag):
    def refused(folder: Path, *more: str) -> str:
        before = {path: path.read_bytes() for path in tables.rglob("*") if path.is_file()}
        assert label(bundle_folder, folder, tables, "--per-recording", flag, *more) == 2
        assert {path: path.read_bytes() for path in tables.rglob("*") if path.is_file()} == before
        assert sorted(path.name for path in tables.parent.iterdir()) == ["tables"]
        return capsys.readouterr().err.strip().splitlines()[-1]

    inside, kept = tables / "windows.parquet", ("--embeddings", str(tables.parent / "kept.parquet"))
    replaced = f"which is in {tables}, a folder that is replaced; give another"
    assert refused(card, "--embeddings", str(inside)) == f"error: --embeddings: got {inside}, {replaced}"
    (tables / "mine.txt").write_text("tone\n")
    mine = tables / "mine.txt"
    assert refused(card, *kept, "--labels", f"@{mine}") == f"error: --labels: got {mine}, {replaced}"
    (tables / "site1").mkdir()
    shutil.copy(card / "silent.wav", tables / "site1" / "a.wav")
    line = f"error: recordings: got {tables / 'site1'}, {replaced}"
    assert refused(tables / "site1", *kept) == line
    recording = tables / "site1" / "a.wav"
    assert refused(card, *kept) == f"error: --out: {recording} is a recording; move it, because the folder is replaced"


def test_a_folder_of_other_files_is_refused_before_the_work(bundle_folder, card, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Embedder, "open_recording", None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    assert label(bundle_folder, card, tmp_path / "mine", "--per-recording", "--overwrite") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith("mine: has no labels.json, so --overwrite will not replace it; give another folder")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.fixture
def small_card(card, tmp_path) -> Path:
    """Two recordings, both of which can be used."""
    folder = tmp_path / "small"
    folder.mkdir()
    for name in ("b.flac", "silent.wav"):
        shutil.copy(card / name, folder / name)
    return folder


def test_a_folder_of_tables_is_replaced_with_the_leave_of_the_interrupted_run(
    bundle_folder, small_card, tmp_path, monkeypatch
):
    out = tmp_path / "tables"
    assert label(bundle_folder, small_card, out, "--per-recording") == 0
    table = out / "b.flac.csv"
    whole = table.read_text()
    table.write_text(whole + "# by hand\n")
    with interrupted_at(1, files_per_part=1):
        assert label(bundle_folder, small_card, out, "--per-recording", "--overwrite") == 130
    assert label(bundle_folder, small_card, out, "--per-recording") == 0
    assert table.read_text() == whole + "# by hand\n"  # whoever says --overwrite again wants it replaced

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("serving.labelling.label_folder.write_tables", full)
        assert label(bundle_folder, small_card, out, "--per-recording", "--overwrite") == 2
    monkeypatch.setattr(Embedder, "open_recording", None)  # the same command takes what was embedded
    assert label(bundle_folder, small_card, out, "--per-recording", "--overwrite") == 0
    assert table.read_text() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small", "tables", "tables.errors.csv"]


def test_an_update_keeps_tables_that_were_corrected_and_files_of_others(bundle_folder, small_card, tmp_path, capsys):
    out = tmp_path / "tables"
    flags = ("--per-recording", "--format", "raven", "--embeddings", str(tmp_path / "kept.parquet"))
    shutil.copy(small_card / "b.flac", small_card / "a.flac")
    assert label(bundle_folder, small_card, out, *flags) == 0
    ours = out / "b.flac.selections.txt"
    whole = ours.read_text()
    corrected = whole.replace("noise", "surf")
    theirs = out / "site" / "a.Table.1.selections.txt"
    theirs.parent.mkdir()
    theirs.write_text("Selection\tSpecies\n1\tWren\n")
    (out / "link").symlink_to("site")
    ours.write_text(corrected)
    shutil.copy(small_card / "b.flac", small_card / "new.flac")
    capsys.readouterr()

    def kept_in_an_update(*more: str) -> int:
        assert label(bundle_folder, small_card, out, *flags, "--update", *more) == 0
        printed = capsys.readouterr()
        n = json.loads(printed.out.splitlines()[-1])["corrected_kept"]
        warning = (
            f"warning: tables in {out} that were changed since they were written are kept as they are: {n}; "
            "--overwrite replaces them"
        )
        assert printed.err.splitlines().count(warning) == (n > 0)
        return n

    for _ in range(2):
        assert kept_in_an_update() == 1
        assert ours.read_text() == corrected
        assert theirs.read_text() == "Selection\tSpecies\n1\tWren\n"
        assert (out / "link").readlink() == Path("site")
        assert "noise" in (out / "new.flac.selections.txt").read_text()
    assert kept_in_an_update("--labels", "tone, clicks") == 1
    assert "noise" not in (out / "a.flac.selections.txt").read_text()  # not changed, so it is renewed
    # An earlier version listed no files: what is not as it would be written now counts as changed.
    settings = json.loads((out / "labels.json").read_text())
    assert len(settings.pop("files")) == 4
    (out / "labels.json").write_text(json.dumps(settings))
    assert kept_in_an_update("--labels", "tone, clicks") == 1
    assert ours.read_text() == corrected
    assert kept_in_an_update("--overwrite") == 0
    assert ours.read_text() == whole
    assert not theirs.exists()


def test_a_folder_of_unreadable_recordings_is_refused_and_the_reasons_stay(bundle_folder, card, tmp_path, capsys):
    folder, out = tmp_path / "bad", tmp_path / "out" / "table.csv"
    folder.mkdir()
    for name in ("a.wav", "b.flac"):
        (folder / name).write_bytes(b"RIFF")
    assert label(bundle_folder, folder, out) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {folder}: none of its 2 recordings can be used; {out.with_suffix('.errors.csv')}")
    assert [path.name for path in out.parent.iterdir()] == ["table.errors.csv"]
    assert [row[0] for row in csv.reader(out.with_suffix(".errors.csv").open())] == ["path", "a.wav", "b.flac"]
    shutil.copy(card / "b.flac", folder / "b.flac")
    assert label(bundle_folder, folder, out, "--overwrite") == 0
    assert len(out.read_text().splitlines()) == 3


def test_words_that_the_text_model_does_not_know_are_told(talking_bundle, card, tmp_path, capsys):
    (tmp_path / "mine.csv").write_text("label,description\nZilpzalp,whistle zzyx\ntone,\nhiss qwv,\n")
    folder = tmp_path / "sounds"
    folder.mkdir()
    shutil.copy(card / "b.flac", folder)
    assert label(talking_bundle, folder, tmp_path / "table.csv", "--labels", str(tmp_path / "mine.csv")) == 0
    captured = capsys.readouterr()
    unknown = {"whistle zzyx": ["zzyx"], "hiss qwv": ["qwv"]}
    assert json.loads(captured.out.splitlines()[-1])["unknown_words"] == unknown
    assert "'whistle zzyx': the text model does not know zzyx" in captured.err.splitlines()
