"""What the page says of labels and sounds: expected scores, kinds, descriptions, verdicts and the log."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from demo.bundle_choice import BundleChoice
from demo.ear import Ear
from demo.examples import EXAMPLE_SOUNDS, pick_examples
from demo.expected_score import expectation, mixed_accuracy, out_of_ten, unseen_accuracy
from demo.header import good_and_bad
from demo.heard import NOTHING, Heard
from demo.labels.favour_new import STEP, largest_favour
from demo.labels.label_kinds import LabelKind
from demo.labels.ranked_labels import rank_labels
from demo.labels.typed_labels import choose_labels, read_descriptions, read_labels, write_descriptions
from demo.smoothing import smooth_rows, windows_together
from demo.tabs.live import hear_piece
from demo.verdict import judge
from serving.audio import Window, read_audio
from serving.embedder import Embedder
from serving.errors import LabelError, UsageError
from tests.conftest import small_sound
from tests.talking_bundle import write_talking_bundle

SCORES = {"seen_accuracy": 0.87, "unseen_top1": {"2": 0.9, "5": 0.78, "10": 0.68, "50": 0.38}}
MIXED = {"mixed_seen": {"1+1": 0.97, "9+1": 0.9, "5+5": 0.8}, "mixed_unseen": {"1+1": 0.95, "9+1": 0.6, "5+5": 0.7}}
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def talking(bundle_folder, tmp_path_factory) -> Embedder:
    """A bundle that understands typed words."""
    return Embedder.load(write_talking_bundle(bundle_folder, tmp_path_factory.mktemp("talking") / "talking"))


def kinds(seen: int, new: int) -> dict[str, LabelKind]:
    return {f"seen {i}": LabelKind.SEEN for i in range(seen)} | {f"new {i}": LabelKind.TYPED for i in range(new)}


def test_the_expected_score_is_that_for_as_many_labels_as_are_typed():
    assert unseen_accuracy(SCORES, 10) == 0.68
    assert 0.68 < (unseen_accuracy(SCORES, 7) or 0) < 0.78
    assert unseen_accuracy(SCORES, 200) == 0.38
    assert expectation(SCORES, kinds(0, 10)) == (
        "With 10 labels it was never trained on, about 7 of 10 first answers are right."
    )
    assert "about 9 of 10 first answers" in expectation(SCORES, kinds(43, 0))
    assert "cannot be compared" in expectation(SCORES, kinds(1, 0))


def test_one_label_alone_has_no_score():
    assert unseen_accuracy({"unseen_top1": {"1": 1.0}}, 10) is None
    assert unseen_accuracy({"unseen_top1": {"1": 1.0, "5": 0.6}}, 2) == 0.6


def test_the_header_counts_the_classes_that_were_measured_and_the_taught_ones_apart(embedder):
    count = len(embedder.manifest.seen_classes)
    scored = replace(embedder.manifest, scores={"test_accuracy": 0.8, "taught_accuracy_all": 0.75})
    bundle = replace(embedder.bundle, manifest=scored)
    rng = np.random.default_rng(0)
    waves = [(small_sound("tone", rng), RATE_HZ) for _ in range(3)]
    taught = embedder.teach({"beep": waves[:1], "whistle": waves[1:2], embedder.manifest.seen_classes[0]: waves[2:]})
    taught.bundle = bundle
    sentences = good_and_bad(taught)
    assert len(taught.zeroshot.seen_names) == count + 2
    assert sentences[0].startswith(f"Good at the {count} classes of its training: about 8 of 10")
    assert sentences[1].startswith("Taught 2 more by examples: 75 % of the held-out examples")
    taught.bundle = replace(bundle, manifest=replace(scored, scores={"test_accuracy": 0.8}))
    assert good_and_bad(taught)[1] == "Taught 2 more by examples: how often they are named right was not measured."
    embedder = copy.copy(embedder)
    embedder.bundle = bundle
    assert "Taught" not in " ".join(good_and_bad(embedder))


def test_taught_labels_have_the_score_among_the_labels_that_they_compete_with():
    scores = SCORES | {"taught_accuracy": 1.0, "taught_accuracy_all": 0.25}
    taught = {f"taught {i}": LabelKind.TAUGHT for i in range(2)}
    assert expectation(scores, taught) == (
        "Sounds of its taught classes: 100 % of the held-out examples are named right."
    )
    with_trained = expectation(scores, taught | kinds(43, 0))
    assert "Sounds of its taught classes: 25 % of" in with_trained
    assert "about 9 of 10 first answers are right among these classes alone." in with_trained  # as it was measured


@pytest.mark.parametrize(("seen", "new", "words"), [(8, 1, "9 of 10"), (6, 4, "8 of 10"), (1, 1, "97 of 100")])
def test_trained_and_new_labels_together_have_the_scores_of_the_nearest_measured_numbers(seen, new, words):
    text = expectation(SCORES | MIXED, kinds(seen, new))
    trained = f"{seen} labels" if seen > 1 else "label"
    assert f"Sounds of the {trained} that it was trained on: about {words} first answers are right." in text


def test_one_new_label_among_trained_ones_has_a_score_of_its_own():
    assert "Sounds of the new label: about 6 of 10." in expectation(SCORES | MIXED, kinds(9, 1))
    unknown = expectation(SCORES, kinds(9, 1))  # a bundle without such scores
    assert "Sounds of its classes: about 9 of 10 first answers are right." in unknown
    assert "how often was not measured" in unknown


@pytest.mark.parametrize("damaged", [{"5": 0.5}, {"0+1": 0.5}, {"a+b": 0.5}, {}, 0.5])
def test_strange_numbers_of_labels_in_a_manifest_are_not_used(damaged):
    assert mixed_accuracy({"mixed_seen": damaged, "mixed_unseen": damaged}, 3, 2) is None


def test_nothing_is_promised_where_nothing_was_measured():
    assert expectation({}, kinds(3, 4)) == ""
    assert unseen_accuracy({"seen_accuracy": 0.9}, 10) is None


@pytest.mark.parametrize(("share", "words"), [(0.684, "7 of 10"), (0.974, "97 of 100"), (0.02, "2 of 100")])
def test_a_share_is_said_in_whole_parts(share, words):
    assert out_of_ten(share) == words


def test_a_bundle_without_a_threshold_says_that_it_cannot_refuse(talking):
    usual = talking.zeroshot
    assert usual.threshold is None
    assert "no threshold to refuse with" in " ".join(good_and_bad(talking))
    talking.labels.zeroshot = replace(usual, threshold=0.2)
    try:
        assert "no threshold" not in " ".join(good_and_bad(talking))
    finally:
        talking.labels.zeroshot = usual


def test_own_descriptions_are_those_that_differ_from_the_bundles(talking):
    written = write_descriptions(talking, ["tone", "hiss"], {})
    assert written == "tone: tone\nhiss: hiss"
    assert read_descriptions(written, talking) == {}
    assert read_descriptions("Tone: hiss\nhiss: hiss\n\nnoise:", talking) == {"tone": "hiss"}
    with pytest.raises(LabelError, match="that of 'tone' is longer than 300 characters"):
        read_descriptions("tone: " + "hiss " * 100, talking)


@pytest.mark.parametrize("label", ["x" * 301, "a " * 51])
def test_a_label_that_takes_the_text_model_long_is_refused(label):
    with pytest.raises(LabelError, match="wanted at most 300 characters and 50 words"):
        read_labels(label)


def test_an_own_description_is_what_the_label_means(talking, recordings):
    row = talking.embed(*read_audio(recordings / "noise" / "0.wav"))
    plain = choose_labels(talking, ["tone", "clicks"], {})
    own = choose_labels(talking, ["tone", "clicks"], {"tone": "hiss"})
    assert own.class_names == ["tone", "clicks"]
    assert own.cosines(row[None])[0, 0] > plain.cosines(row[None])[0, 0]
    ranked = rank_labels(talking, row[None], ["tone", "clicks"], own={"tone": "hiss"})
    assert ranked.kinds == {"tone": LabelKind.TYPED, "clicks": LabelKind.SEEN}


def test_a_window_like_none_of_the_labels_or_silent_has_no_label(talking, recordings):
    rows = np.stack([talking.embed(*read_audio(recordings / kind / "0.wav")) for kind in ("tone", "noise")])
    ranked = rank_labels(talking, rows, None)
    assert ranked.named_windows([False, True]) == ["tone", NOTHING]
    similar = talking.zeroshot.similarities(rows).max(axis=1)
    usual = talking.zeroshot
    talking.labels.zeroshot = replace(usual, threshold=float(similar.max()) + 0.01)
    try:
        none = rank_labels(talking, rows, None)
    finally:
        talking.labels.zeroshot = usual
    assert none.named_windows([False, False]) == [NOTHING, NOTHING]
    assert judge(none, silent=False).text == "none of these"
    assert judge(none, silent=True).text == "nothing to hear"
    assert judge(ranked, silent=False).text == ""
    assert judge(ranked, silent=False, seconds=0.03).text == ""
    one_sample = judge(ranked, silent=False, seconds=1 / RATE_HZ)
    assert (one_sample.text, "lasts only 0.1 ms" in one_sample.reason) == ("nothing to hear", True)


def test_the_slider_ends_where_other_labels_win(talking, recordings):
    rows = talking.embed_files(sorted(recordings.rglob("*.wav")))
    end = largest_favour(talking.zeroshot, rows)
    scores = talking.zeroshot.scores(rows)
    lead = scores.max(axis=1) - np.quantile(scores, 0.75, axis=1)
    assert np.mean(lead <= end) >= 0.95
    assert largest_favour(talking.zeroshot, None) == pytest.approx(0.7 * talking.zeroshot.temperature, abs=0.1)
    assert largest_favour(replace(talking.zeroshot, offset=2.0), rows) == pytest.approx(end - 2, abs=0.11)
    assert largest_favour(replace(talking.zeroshot, offset=100.0), rows) == STEP


def test_favour_is_added_to_the_offset_that_the_bundle_has_for_these_labels(talking, recordings):
    row = talking.embed(*read_audio(recordings / "noise" / "0.wav"))[None]
    usual = talking.zeroshot
    talking.labels.zeroshot = replace(usual, offset=1.0, balanced=True)
    try:
        shares = [dict(rank_labels(talking, row, ["noise", "tone", "hiss"], favour).ranking) for favour in (0, 2)]
        windows = [rank_labels(talking, row, ["noise", "tone", "hiss"], favour).by_window[0] for favour in (0, 2)]
    finally:
        talking.labels.zeroshot = usual
    for favour, share in zip((0, 2), shares, strict=True):  # noise and hiss mean the same; two labels were trained on
        assert share["hiss"] / share["noise"] == pytest.approx(2 * np.exp(1 + favour), rel=1e-3)
    assert windows == [("hiss", pytest.approx(share["hiss"], rel=1e-3)) for share in shares]


def test_short_windows_are_averaged_with_their_neighbours_and_long_ones_are_not():
    assert windows_together(Window(RATE_HZ, 77_040, 76_800)) == 1
    assert windows_together(Window(RATE_HZ, 15_600, 15_360)) == 3
    rows = np.array([[0.0], [3.0], [6.0], [0.0]], np.float32)
    np.testing.assert_allclose(smooth_rows(rows, 3), [[1.5], [3], [3], [3]])
    assert smooth_rows(rows, 1) is rows


def test_the_log_joins_answers_and_a_pause_parts_them():
    window = Window(RATE_HZ, 15_600, 15_360)
    ear = Ear()
    for label in ("rain", "rain", NOTHING, "rain", "dog, barking"):
        ear.listen(np.zeros(RATE_HZ, np.float32), RATE_HZ, window)
        ear.note(label, 0.5)
    assert ear.log == [Heard("rain", 0, 2, 0.5), Heard("rain", 3, 4, 0.5), Heard("dog, barking", 4, 5, 0.5)]
    assert ear.log_as_csv().splitlines()[-1] == '4.0,5.0,"dog, barking",0.500'


def test_a_typed_label_in_the_log_is_no_formula_for_a_spreadsheet():
    ear = Ear()
    ear.listen(np.zeros(RATE_HZ, np.float32), RATE_HZ, Window(RATE_HZ, 15_600, 15_360))
    ear.note("=HYPERLINK(1)", 0.5)
    assert ear.log_as_csv().splitlines()[-1] == "0.0,1.0,'=HYPERLINK(1),0.500"


def test_two_visitors_may_send_the_same_piece_of_silence(bundle_folder, tmp_path):
    bundles, piece = BundleChoice({"one": bundle_folder}), tmp_path / "piece.wav"
    sf.write(piece, np.zeros(RATE_HZ), RATE_HZ)
    ears = [Ear(), Ear()]
    for ear in ears:  # as Gradio does, which keeps equal files once
        hear_piece(bundles, "one", ear, str(piece))
    assert [ear.fault for ear in ears] == ["", ""]
    assert ears[0].heard_s == 1
    piece.write_text("no sound")
    hear_piece(bundles, "one", ears[1], str(piece))
    assert ears[1].fault.startswith("piece.wav: ")  # without its folder on the server
    assert not piece.exists()


def test_an_answer_is_about_the_newest_whole_windows():
    window = Window(RATE_HZ, 15_600, 15_360)
    ear = Ear()
    sound = np.linspace(0, 1, 5 * RATE_HZ).astype(np.float32)
    ear.listen(sound[:40_000], RATE_HZ, window)
    assert not ear.is_warm(window)
    ear.listen(sound[40_000:], RATE_HZ, window)
    assert ear.is_warm(window)
    assert len(ear.newest(window)) == window.samples + 2 * window.hop_samples
    assert ear.newest(window)[-1] == ear.wave[-1]


def test_labels_of_examples_are_read_from_the_folder(tmp_path):
    (tmp_path / "bark.wav").touch()
    (tmp_path / "labels.json").write_text('{"bark": ["dog", "cat"]}')
    assert pick_examples(tmp_path)[0].labels == ("dog", "cat")
    (tmp_path / "labels.json").write_text('{"bark": "dog"}')
    with pytest.raises(UsageError, match=r"labels\.json: wanted a JSON object of lists"):
        pick_examples(tmp_path)


def test_every_example_is_named_right_by_the_shipped_bundle():
    from demo.bundle_choice import SHIPPED

    embedder = Embedder.load(SHIPPED)
    for path, name, labels in pick_examples(Path(EXAMPLE_SOUNDS)):
        ranked = rank_labels(embedder, embedder.embed_windows(*read_audio(path)), labels)
        assert not ranked.none_of_these
        if name != "four in a row":
            assert ranked.ranking[0][0] == name
