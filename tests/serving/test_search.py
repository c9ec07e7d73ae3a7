"""Search an index by a sound, by words, or by both: the command and Python."""

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pyarrow import parquet

from demo.bundle_choice import FROM_SCRATCH
from serving.audio import read_audio
from serving.bundle.bundle import open_bundle
from serving.embed import main as embed
from serving.embedder import Embedder
from serving.errors import AudioError, LabelError, UsageError
from serving.index import main as make_index
from serving.search.__main__ import main
from serving.search.index_builder import build_index
from serving.search.index_folder import EMBEDDINGS
from serving.search.phrases import Phrases
from serving.search.query import choose_phrases, embed_sound, make_query
from serving.search.scores import combine
from serving.search.search_index import SearchIndex
from serving.zeroshot import ZeroShot, unit_rows
from tests.indexed_sounds import index_sounds, write_recording
from tests.serving.test_index import refusal, write_parquet


def places(found) -> list[tuple[str, float]]:
    return [(each.path, round(each.start_s, 1)) for each in found]


TONES = {("a/20190318_235955.wav", 0.0), ("a/20190318_235955.wav", 14.4), ("b.flac", 4.8)}


def test_a_sound_finds_the_windows_that_sound_like_it(index, talker, recordings):
    found = index.find(talker, sound=recordings / "tone" / "0.wav", top=3)
    assert set(places(found)) == TONES
    assert all(each.scores == {"sound": each.score} for each in found)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


@pytest.mark.parametrize("words", ["tone", "whistle", "  Whistle "])
def test_words_find_the_windows_that_they_describe(index, talker, words):
    assert set(places(index.find(talker, words=words, top=3))) == TONES


def test_scores_are_those_of_an_exact_search(index, talker, index_folder, recordings):
    table = parquet.read_table(index_folder.with_name("sounds.parquet"))
    table = table.filter(np.asarray(table["level_dbfs"]) >= -70)
    rows = np.array(table["embedding"].to_pylist(), np.float32)
    by_words = {each.row: each.score for each in index.find(talker, words="hiss")}
    exact = [dict(talker.zeroshot.rank(row, offset=0))["noise"] for row in rows]  # which means the same
    assert by_words == {row: pytest.approx(score, abs=1e-4) for row, score in enumerate(exact)}
    embedding = talker.embed_files([recordings / "noise" / "1.wav"])[0]
    query = make_query(index.manifest.embedding_space, talker.zeroshot, embedding, None)
    by_sound = {each.row: each.score for each in index.search(query)}
    mean = talker.zeroshot.mean
    exact = unit_rows(rows - mean) @ unit_rows((embedding - mean)[None])[0]
    assert by_sound == {row: pytest.approx(score, abs=1e-5) for row, score in enumerate(exact)}


def test_a_found_row_has_its_file_its_place_and_its_times(index, talker):
    first, *_ = [each for each in index.find(talker, words="clicks") if each.path.startswith("a/")]
    assert (round(first.start_s, 1), round(first.end_s, 1)) == (9.6, 14.4)
    assert first.recorded_at == "2019-03-18T23:59:55.000"
    assert first.start_at == "2019-03-19T00:00:04.600"
    other, *_ = [each for each in index.find(talker, words="noise") if each.path == "b.flac"]
    assert (other.recorded_at, other.start_at, other.end_at) == (None, None, None)


def test_silent_windows_are_never_found(index, talker):
    found = index.find(talker, words="tone", top=100)
    assert len(found) == len(index)
    assert "silent.wav" not in {each.path for each in found}
    assert ("a/20190318_235955.wav", 4.8) not in places(found)


@pytest.fixture(scope="module")
def mixed(talker, tmp_path_factory) -> SearchIndex:
    """Rows 0 to 3: what the map takes for a tone, for clicks, for noise, and for a tone and clicks at the same time."""
    folder, zeroshot = tmp_path_factory.mktemp("mixed"), talker.zeroshot
    vectors = zeroshot.class_vectors[[zeroshot.class_names.index(name) for name in ("tone", "clicks", "noise")]]
    wanted = np.vstack([vectors, vectors[0] + vectors[1]])  # [4, 3] in the space of the comparison
    rows = (zeroshot.mean + wanted @ np.linalg.pinv(zeroshot.projection, rcond=1e-3)).astype(np.float32)
    space = talker.manifest.embedding_space
    build_index(
        write_parquet(folder / "x.parquet", rows, embedding_space=[space] * 4), folder / "x.index", talker.bundle
    )
    return SearchIndex.open(folder / "x.index")


def test_and_wants_both_at_the_same_time(mixed, talker):
    found = mixed.find(talker, words="tone", both=["ticking"])
    assert found[0].row == 3
    assert set(found[0].scores) == {"tone", "ticking"}
    assert found[0].scores["tone"] == pytest.approx(found[0].scores["ticking"], abs=0.01)  # plain cosines
    assert found[0].score > 0 > found[1].score


def test_not_keeps_out(mixed, talker):
    assert [each.row for each in mixed.find(talker, words="clicks", top=2)] == [1, 3]
    assert mixed.find(talker, words="clicks", without=["whistle"], top=1)[0].row == 1
    assert [each.row for each in mixed.find(talker, words="clicks", without=["whistle"])][-1] == 0


def test_a_sound_and_words_can_be_looked_for_together(mixed, talker):
    space, (tone, _, _, both) = talker.manifest.embedding_space, mixed.sample
    also, but_not = (choose_phrases(talker, [words]) for words in ("ticking", "whistle"))
    assert mixed.search(make_query(space, talker.zeroshot, tone, None))[0].row == 0
    assert mixed.search(make_query(space, talker.zeroshot, (tone + both) / 2, also))[0].row == 3
    found = mixed.search(make_query(space, talker.zeroshot, both, but_not, 1))
    assert set(found[0].scores) == {"sound", "whistle"}


def test_rain_and_a_dog_are_found_where_both_are_heard(esc10, tmp_path):
    with (esc10 / "meta" / "esc50.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] == "4"]
    clips = {
        kind: [read_audio(esc10 / "audio" / row["filename"])[0][:, 0] for row in rows if row["category"] == kind]
        for kind in ("rain", "dog", "sea_waves", "clock_tick", "rooster")
    }
    (tmp_path / "sounds").mkdir()
    rate_hz = 44_100
    for kind, waves in clips.items():
        for i, wave in enumerate(waves):
            soundfile.write(tmp_path / "sounds" / f"{kind}-{i}.flac", wave, rate_hz)
    for i, (rain, dog) in enumerate(zip(clips["rain"], clips["dog"], strict=True)):
        barks = int(np.abs(dog).argmax())
        part = slice(max(0, barks - 4000), max(0, barks - 4000) + rate_hz)
        both = 0.3 * rain[: len(dog[part])] / np.abs(rain).max() + 0.5 * dog[part] / np.abs(dog).max()
        soundfile.write(tmp_path / "sounds" / f"both-{i}.flac", both, rate_hz)
    embedder = Embedder.load("demo/model")
    index = SearchIndex.open(index_sounds(Path("demo/model"), tmp_path / "sounds", tmp_path))

    def share(*kinds: str, **wanted: Any) -> float:
        """How many of the first eight are of these recordings."""
        return sum(each.path.startswith(kinds) for each in index.find(embedder, top=8, **wanted)) / 8

    assert share("rain", "both", words="rain") >= 0.8
    assert share("both", words="rain", both=["dog"]) > share("both", words="rain")
    assert share("both", words="dog", without=["rain"]) <= share("both", words="dog")
    assert share("dog", "both", words="a barking hound") >= 0.6


def test_the_combined_score_is_the_mean_of_what_is_wanted_less_what_is_unwanted_beyond_a_deviation():
    standardised = np.array([[4, 1, 1], [4, 1, -1], [2, -3, 2.5]], np.float32)
    assert combine(standardised[:, :2], np.array([False, False])).tolist() == pytest.approx([2, 2, -3])
    assert combine(standardised, np.array([False, False, True])).tolist() == pytest.approx([2, 2, -4.5])
    assert combine(standardised, np.array([False, True, True])).tolist() == pytest.approx([4, 4, 0.5])


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ({}, UsageError, "got nothing to look for"),
        ({"without": ["tone"]}, UsageError, "got nothing to look for"),
        ({"words": ""}, LabelError, "got an empty text"),
        ({"words": "tone", "both": [" "]}, LabelError, "got an empty text"),
        ({"words": "tone", "without": ["Tone"]}, LabelError, "words: got 'Tone' twice"),
        ({"words": "tone", "both": "hiss"}, UsageError, "both: got 'hiss'; wanted a list of texts"),
        ({"words": "tone", "without": "hiss"}, UsageError, "without: got 'hiss'; wanted a list of texts"),
        ({"words": 3}, LabelError, "words: got 3; wanted a text"),
        ({"words": "x" * 301}, LabelError, "wanted at most 300 characters"),
        ({"words": "zzyx"}, LabelError, "the text model knows none of its words"),
        ({"words": "tone", "top": 0}, UsageError, "^top: got 0; wanted 1 or more"),
        ({"sound": "gone.wav"}, AudioError, "gone.wav"),
    ],
)
def test_what_cannot_be_looked_for_is_told(index, talker, wanted, error, words):
    with pytest.raises(error, match=words):
        index.find(talker, **wanted)


def test_the_word_sound_beside_a_sound_is_refused_because_their_scores_would_have_one_name(talker, index):
    other = replace(
        talker.zeroshot, class_names=["sound" if name == "tone" else name for name in talker.zeroshot.class_names]
    )
    named = Phrases(other, other.choose(["sound"]))
    space = talker.manifest.embedding_space
    assert set(index.search(make_query(space, other, None, named))[0].scores) == {"sound"}
    with pytest.raises(LabelError, match="got the words 'sound' beside a recording, whose score has that name"):
        make_query(space, other, index.sample[0], named)


def test_a_silent_sound_is_like_nothing(index, talker, tmp_path):
    write_recording(tmp_path / "silent.wav", ("zeros",), 1)
    with pytest.raises(AudioError, match=r"silent\.wav: is silent, so no sound is like it; give another"):
        index.find(talker, sound=tmp_path / "silent.wav")


def test_silence_within_a_sound_does_not_count(talker, tmp_path):
    write_recording(tmp_path / "long.wav", ("zeros", "clicks", "zeros"), 7)
    with talker.stream(tmp_path / "long.wav") as stream:
        rows = np.concatenate([block.rows for block in stream])
    np.testing.assert_allclose(embed_sound(talker, tmp_path / "long.wav", "window"), rows[1], atol=1e-5)


@pytest.mark.parametrize("is_old", [False, True])
def test_a_recording_finds_itself_first_among_recordings(talker, index_folder, tmp_path, is_old):
    sounds = index_folder.with_name("sounds")
    assert embed([str(talker.bundle.folder), str(sounds), "--out", str(tmp_path / "clips.parquet")]) == 0
    build_index(tmp_path / "clips.parquet", tmp_path / "clips.index", talker.bundle)
    if is_old:  # which did not say what its rows are
        manifest = json.loads((tmp_path / "clips.index" / "index.json").read_text())
        del manifest["per"]
        (tmp_path / "clips.index" / "index.json").write_text(json.dumps(manifest))
    clips = SearchIndex.open(tmp_path / "clips.index")
    for path in clips.rows["path"].to_pylist():  # one of them is silent in parts
        first = clips.find(talker, sound=sounds / path)[0]
        assert (first.path, first.score) == (path, pytest.approx(1, abs=1e-5))


def test_an_index_without_the_numbers_of_a_map_finds_the_same(index_folder, index, talker, recordings, tmp_path):
    build_index(index_folder.with_name("sounds.parquet"), tmp_path / "plain.index")
    plain = SearchIndex.open(tmp_path / "plain.index")
    sound = recordings / "tone" / "0.wav"
    queries: list[dict[str, Any]] = [{"words": "whistle"}, {"sound": sound}]
    for wanted in [*queries, {"words": "tone", "both": ["hiss"], "without": ["ticking"]}]:
        found = {each.row: each.score for each in plain.find(talker, **wanted)}
        assert found == {each.row: pytest.approx(each.score, abs=1e-5) for each in index.find(talker, **wanted)}


LARGE = 60_000  # rows: more than any search reads


@pytest.fixture(scope="module")
def many_classes() -> Embedder:
    """The project's own bundle: the map of a small one has few directions, in which any row can be near any words."""
    return Embedder.load(FROM_SCRATCH)


@pytest.fixture(scope="module", params=["with the bundle", "without"])
def large(request, many_classes, tmp_path_factory) -> SearchIndex:
    """Rows around 300 places, like windows of 300 kinds of sounds."""
    folder, rng = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    mean, size = many_classes.zeroshot.mean, len(many_classes.zeroshot.mean)
    places = rng.standard_normal((300, size)).astype(np.float32)
    rows = mean + places[rng.integers(300, size=LARGE)] + 0.1 * rng.standard_normal((LARGE, size), np.float32)
    source = write_parquet(folder / "x.parquet", rows, embedding_space=[many_classes.manifest.embedding_space] * LARGE)
    build_index(source, folder / "x.index", many_classes.bundle if request.param == "with the bundle" else None)
    return SearchIndex.open(folder / "x.index")


@pytest.mark.parametrize(
    ("wanted", "n_unwanted"), [(["whistle"], 0), (["tone", "ticking"], 0), (["rain", "hiss", "a dog barks"], 1)]
)
@pytest.mark.parametrize("by_sound", [False, True])
def test_a_search_reads_some_cells_and_finds_what_an_exact_search_finds(
    large, many_classes, wanted, n_unwanted, by_sound
):
    sound = large.sample[7] if by_sound else None
    query = make_query(
        large.manifest.embedding_space, many_classes.zeroshot, sound, choose_phrases(many_classes, wanted), n_unwanted
    )
    found, exact = ([each.score for each in large.search(query, 50, exact=is_exact)] for is_exact in (False, True))
    # Thousands of rows may have a probability that rounds to 1, so that scores are compared and not rows.
    assert found == pytest.approx(exact, abs=1e-3)


def test_a_sound_finds_itself_and_its_neighbours_in_a_large_index(large, many_classes):
    for sound in large.sample[:20]:
        query = make_query(large.manifest.embedding_space, many_classes.zeroshot, sound, None)
        found, exact = large.search(query), large.search(query, exact=True)
        assert found[0].score == pytest.approx(1, abs=1e-5)
        assert len({each.row for each in found} & {each.row for each in exact}) >= 9


def test_an_index_with_the_claims_of_another_bundle_is_refused(index_folder, tmp_path, capsys):
    source, other = str(index_folder.with_name("sounds.parquet")), "demo/model-from-scratch"
    command = [source, "--bundle", other, "--out", str(tmp_path / "x")]
    assert "holds embeddings of another model" in refusal(capsys, command, make_index)


def test_words_need_a_text_model(index, embedder):
    assert index.find(embedder, words="tone", top=1)[0].path in ("a/20190318_235955.wav", "b.flac")
    with pytest.raises(LabelError, match="has no text model to understand others with"):
        index.find(embedder, words="whistle")


def test_an_index_of_another_model_is_refused(index):
    other = Embedder.load("demo/model-from-scratch")
    with pytest.raises(UsageError, match=r"sounds\.index: holds embeddings of another model \(\w{8}\) than"):
        index.find(other, words="dog")


def test_several_threads_search_at_the_same_time_and_find_the_same(index, talker):
    expected = {words: places(index.find(talker, words=words)) for words in ("tone", "hiss", "ticking")}
    wrong = []

    def work(words: str) -> None:
        for _ in range(50):
            if places(index.find(talker, words=words)) != expected[words]:
                wrong.append(words)

    threads = [threading.Thread(target=work, args=(words,)) for words in expected for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_command_shows_a_table_and_prints_json(index_folder, talking_bundle, capsys):
    assert main([str(index_folder), "--bundle", str(talking_bundle), "--words", "whistle", "--top", "2"]) == 0
    *table, line = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert len(told["results"]) == 2
    assert told["rows"] == len(SearchIndex.open(index_folder))
    assert (Path(told["recordings"]) / told["results"][0]["path"]).is_file()
    assert set(told["milliseconds"]) == {"open", "load_bundle", "find"}
    assert any(told["results"][0]["path"] in row for row in table)


def test_the_command_writes_csv_that_is_never_half_there(index_folder, talking_bundle, tmp_path, capsys):
    out = tmp_path / "a new" / "folder" / "found.csv"
    command = [
        str(index_folder),
        "--bundle",
        str(talking_bundle),
        "--words",
        "clicks",
        "--not",
        "tone",
        "--not",
        "noise",
        "--out",
        str(out),
    ]
    assert main(command) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["path"] in ("a/20190318_235955.wav", "c.wav")
    assert list(rows[0]) == ["path", "start_s", "end_s", "score", "start_at", "end_at", "recorded_at"]
    assert "exists already; give another --out, or --overwrite" in refusal(capsys, command, main)
    assert main([*command, "--overwrite"]) == 0


def test_words_that_the_text_model_does_not_know_are_told(index_folder, talking_bundle, capsys):
    assert main([str(index_folder), "--bundle", str(talking_bundle), "--words", "whistle zzyx", "--top", "1"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["unknown_words"] == {"whistle zzyx": ["zzyx"]}
    assert "the text model does not know zzyx" in captured.err
    command = [str(index_folder), "--bundle", str(talking_bundle), "--words", "whistle", "--not", "hiss zzyx"]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["unknown_words"] == {"hiss zzyx": ["zzyx"]}
    assert "'hiss zzyx': the text model does not know zzyx" in captured.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "got nothing to look for; give --sound FILE or --words TEXT"),
        (["--not", "tone"], "got nothing to look for"),
        (["--words", ""], "got an empty text"),
        (["--words", "tone", "--top", "0"], "--top: got 0; wanted 1 or more"),
        (["--words", "zzyx"], "knows none of its words"),
        (["--sound", "no-such.wav"], "no-such.wav"),
    ],
)
def test_the_command_refuses_wrong_input_in_one_line(index_folder, talking_bundle, capsys, flags, words):
    assert words in refusal(capsys, [str(index_folder), "--bundle", str(talking_bundle), *flags], main)


def test_the_command_refuses_an_index_of_another_model_in_one_line(index_folder, capsys):
    line = refusal(capsys, [str(index_folder), "--bundle", "demo/model-from-scratch", "--words", "dog"], main)
    assert "holds embeddings of another model" in line


def test_the_command_refuses_an_index_that_is_cut_short_in_one_line(index_folder, talking_bundle, tmp_path, capsys):
    shutil.copytree(index_folder, tmp_path / "cut.index")
    os.truncate(tmp_path / "cut.index" / EMBEDDINGS, 1000)
    line = refusal(capsys, [str(tmp_path / "cut.index"), "--bundle", str(talking_bundle), "--words", "tone"], main)
    assert f"{EMBEDDINGS}: has 1000 bytes, wanted" in line


def test_search_runs_without_torch(index_folder, talking_bundle, without_torch):
    command = [sys.executable, "-m", "serving.search", str(index_folder), "--bundle", str(talking_bundle)]
    command += ["--words", "tone"]
    done = subprocess.run(command, env=without_torch, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_claim_is_what_makes_a_cosine_a_log_probability(talker, recordings):
    rows = talker.embed_files(sorted(recordings.rglob("*.wav")))
    zeroshot = talker.zeroshot
    scores = zeroshot.temperature * (zeroshot.cosines(rows) - zeroshot.claims(rows)[:, None])
    for row, logarithms in zip(rows, scores, strict=True):
        shares = dict(zeroshot.rank(row, offset=0))
        for name, logarithm in zip(zeroshot.class_names, logarithms, strict=True):
            assert np.exp(logarithm) == pytest.approx(shares[name], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(("likeness", "is_drawn"), [(0.3, False), (0.45, True), (0.9, True)])
def test_a_phrase_that_means_nearly_a_class_is_drawn_to_it_and_another_is_not(likeness, is_drawn):
    size = np.eye(8, dtype=np.float32)
    zeroshot = ZeroShot(np.zeros(8, np.float32), size, ["a", "b", "c"], size[:3], np.ones(3, bool), 10.0)
    phrase = likeness * size[:1] + np.sqrt(1 - likeness**2) * size[7:]
    chosen = replace(zeroshot, class_names=["phrase"], class_vectors=phrase, seen=np.zeros(1, bool))
    cosine = Phrases(zeroshot, chosen).scores(size[:1], np.ones(1, bool))[0, 0] + zeroshot.claims(size[:1])[0]
    assert (cosine > likeness + 0.05) == is_drawn
    assert is_drawn or cosine == pytest.approx(likeness, abs=1e-6)


def test_a_class_with_a_given_target_is_searched_there():
    size = np.eye(4, dtype=np.float32)
    zeroshot = ZeroShot(np.zeros(4, np.float32), size, ["a", "b"], size[:2], np.ones(2, bool), 10.0)
    zeroshot = replace(zeroshot, given_targets=np.stack([size[2], 0 * size[0]]))
    phrases = Phrases(zeroshot, zeroshot.choose(["a"]))
    cosines = phrases.scores(size, np.zeros(1, bool))[:, 0]
    np.testing.assert_allclose(cosines, [0, 0, 1, 0], atol=1e-6)
    odds = phrases.odds(phrases.scores(size[2:3], np.ones(1, bool)))
    assert odds[0, 0] == pytest.approx(dict(zeroshot.rank(size[2], offset=0))["a"], rel=1e-4)


def test_a_bundle_on_disk_has_the_space_of_its_index(index_folder, talking_bundle):
    space = SearchIndex.open(index_folder).manifest.embedding_space
    assert space == open_bundle(talking_bundle).manifest.embedding_space
