"""The tab "Teach": which sound is asked about, what an answer changes, and the tab in a real browser."""

import csv
import html
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from demo.bundle_choice import FROM_SCRATCH, BundleChoice
from demo.drawing.draw_teach import draw_question
from demo.examples import Example, pick_examples
from demo.library import Library, embed_examples, read_library
from demo.teach_session import begin, library_of_uploads
from serving.embed import main as embed
from serving.embedder import Embedder
from serving.errors import AudioError, LabelError
from serving.teach import main as teach
from tests.demo.browser_visit import Visit

LABELS = ["my tone", "my noise", "my clicks"]


@pytest.fixture(scope="module")
def scratch() -> Embedder:
    return Embedder.load(FROM_SCRATCH)


@pytest.fixture(scope="module")
def library(scratch, recordings, tmp_path_factory) -> Library:
    """The small recordings, all of them, each with a name of its own."""
    folder = tmp_path_factory.mktemp("library")
    paths = []
    for path in sorted(recordings.rglob("*.wav")):
        (folder / path.parent.name).mkdir(exist_ok=True)
        paths.append(str(shutil.copy(path, folder / path.parent.name / f"{path.parent.name}{path.name}")))
    return replace(library_of_uploads(scratch, paths)[0], is_uploaded=False)


def right_label(library: Library, row: int) -> int:
    """The right label of a row: its folder says it."""
    return LABELS.index(f"my {Path(library.paths[row]).parent.name}")


def test_answers_teach_the_labels_at_once(scratch, library):
    """The visitor means other sounds by the labels than their words say."""
    session = begin(scratch, LABELS, library)
    before = session.taught.scores(library.embeddings).argmax(axis=1)
    rights = np.array([right_label(library, row) for row in range(len(library))])
    meant = min(range(3), key=lambda shift: (before == (rights + shift) % 3).mean())

    def kind_of(library: Library, row: int) -> int:
        return (right_label(library, row) + meant) % 3

    truth = np.array([kind_of(library, row) for row in range(len(library))])
    asked = []
    for _ in range(9):
        assert session.current is not None
        asked.append(session.current)
        session = session.answered(kind_of(library, session.current))
    after = session.taught.scores(library.embeddings).argmax(axis=1)
    assert len(set(asked)) == 9
    assert (before == truth).mean() < 0.5
    assert (after == truth).mean() > 0.9
    assert len(session.curve) == 9
    assert session.curve[-1] > session.curve[0]


def test_none_of_the_labels_teaches_nothing_and_is_not_asked_again(scratch, library):
    session = begin(scratch, LABELS, library)
    row = session.current
    after = session.answered(None)
    assert after.current != row
    np.testing.assert_array_equal(after.taught.targets, session.taught.targets)
    assert after.undone().current == row
    for _ in range(len(library) - 1):
        after = after.answered(None)
    assert after.current is None
    assert "All sounds are answered" in draw_question(after)


def test_the_answers_are_a_list_that_can_be_taught(scratch, library, tmp_path):
    session = begin(scratch, LABELS, library)
    for _ in range(6):
        session = session.answered(right_label(library, session.current or 0))
    session = session.answered(None)
    (tmp_path / "examples.csv").write_text(session.table())
    rows = list(csv.DictReader((tmp_path / "examples.csv").open()))
    assert [row["label"] for row in rows[:-1]] == [LABELS[label or 0] for _, label in session.answers[:-1]]
    assert rows[-1]["label"] == ""
    # The page takes the words of a label as its description.
    (tmp_path / "words.csv").write_text("label,description\n" + "".join(f"{label},{label}\n" for label in LABELS))
    arguments = [FROM_SCRATCH, tmp_path / "examples.csv", "--descriptions", tmp_path / "words.csv"]
    assert teach([str(each) for each in (*arguments, "--out", tmp_path / "mine")]) == 0
    taught = Embedder.load(tmp_path / "mine").zeroshot.choose(sorted({row["label"] for row in rows[:-1]}))
    seen = dict(zip(session.labels, session.taught.seen.tolist(), strict=True))
    assert {name: bool(each) for name, each in zip(taught.class_names, taught.seen, strict=True)} == seen
    sums = dict(zip(session.labels, session.taught.example_sums, strict=True))  # pyright: ignore[reportArgumentType]
    for name, row in zip(taught.class_names, taught.example_sums, strict=True):  # pyright: ignore[reportArgumentType]
        np.testing.assert_allclose(row, sums[name], atol=1e-3)  # other batches round otherwise


def test_the_answers_about_the_examples_of_the_page_can_be_taught(scratch, recordings, tmp_path):
    examples = [Example(recordings / kind / "0.wav", kind) for kind in ("tone", "noise", "clicks")]
    session = begin(scratch, LABELS, embed_examples(scratch, examples))
    for _ in examples:
        session = session.answered(right_label(session.library, session.current or 0))
    (tmp_path / "examples.csv").write_text(session.table())
    assert teach([str(FROM_SCRATCH), str(tmp_path / "examples.csv"), "--out", str(tmp_path / "mine")]) == 0


def test_the_answers_about_uploads_can_be_taught_after_the_uploads_are_deleted(scratch, recordings, tmp_path):
    mine = shutil.copytree(recordings / "tone", tmp_path / "mine")
    uploads = shutil.copytree(mine, tmp_path / "uploads")
    session = begin(scratch, LABELS, *library_of_uploads(scratch, [str(path) for path in sorted(uploads.iterdir())]))
    (tmp_path / "examples.csv").write_text(session.answered(0).answered(0).table())
    shutil.rmtree(uploads)
    arguments = [FROM_SCRATCH, tmp_path / "examples.csv", "--recordings", mine, "--out", tmp_path / "taught"]
    assert teach([str(argument) for argument in arguments]) == 0


def test_uploads_of_which_none_is_a_sound_are_refused_with_their_names_alone(scratch, tmp_path):
    (tmp_path / "bad.wav").write_text("no sound")
    with pytest.raises(AudioError, match=r"none of the 1 can be used; the first: bad\.wav: not a readable audio file"):
        library_of_uploads(scratch, [str(tmp_path / "bad.wav")])


def test_readable_uploads_are_used_and_the_others_are_named_with_the_reason(scratch, recordings, tmp_path):
    tone, other = recordings / "tone" / "0.wav", recordings / "tone" / "1.wav"
    (tmp_path / "bad.wav").write_text("no sound")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    (tmp_path / "again").mkdir()
    double = shutil.copy(recordings / "noise" / "0.wav", tmp_path / "again" / "0.wav")
    paths = [tmp_path / "bad.wav", tone, tmp_path / "silent.wav", double, other]
    library, notes = library_of_uploads(scratch, [str(path) for path in paths])
    assert set(library.paths) == {str(tone).lstrip("/"), str(other).lstrip("/")}
    assert [note.partition(":")[0] for note in notes] == ["bad.wav", "silent.wav", "0.wav"]
    assert "not a readable audio file" in notes[0]
    assert "is silent" in notes[1]
    assert "another recording has this name" in notes[2]
    page = draw_question(begin(scratch, LABELS, library, notes))
    assert all(note in html.unescape(page) for note in notes)
    assert "bad.wav" not in draw_question(begin(scratch, LABELS, library, notes).answered(0))


def test_a_label_without_a_known_word_is_taught_by_the_answers_alone(library, scratch):
    session = begin(scratch, ["my tone", "zzyx", "my clicks"], library)
    if scratch.labels.knows_text:
        assert [note.partition(":")[0] for note in session.notes] == ["zzyx"]
    for _ in range(9):
        session = session.answered(right_label(library, session.current or 0))
    noise = [row for row in range(len(library)) if right_label(library, row) == 1]
    assert (session.taught.scores(library.embeddings[noise]).argmax(axis=1) == 1).mean() > 0.9


def test_a_class_of_the_bundle_that_takes_the_answered_sounds_is_named(library, scratch):
    """The bundle was taught these sounds under other names before."""
    files = [library.root / path for path in dict.fromkeys(library.paths)]
    old = {f"old {kind}": [path for path in files if path.parent.name == kind] for kind in ("tone", "noise", "clicks")}
    session = begin(scratch.teach(old, {name: name for name in old}), LABELS, library)
    for _ in range(len(library)):
        session = session.answered(right_label(library, session.current or 0))
    rivals = session.rivals
    assert {name: rival.name for name, rival in rivals.items()} == {name: f"old {name[3:]}" for name in LABELS}
    assert "named old tone when all classes of the bundle are labels" in draw_question(session)
    assert begin(scratch, LABELS, library).rivals == {}


@pytest.mark.parametrize("labels", [["dog"], [f"sound {i}" for i in range(10)]])
def test_too_few_or_too_many_labels_are_refused(scratch, library, labels):
    with pytest.raises(LabelError, match="type 2 to 9"):
        begin(scratch, labels, library)


@pytest.fixture(scope="module")
def address(recordings, tmp_path_factory) -> Iterator[str]:
    """The page of the bundle from scratch, with the small recordings as its library."""
    from demo.gradio_page import build_page, launch_settings

    out = tmp_path_factory.mktemp("library") / "small.parquet"
    assert embed([str(FROM_SCRATCH), str(recordings), "--per", "window", "--out", str(out)]) == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = build_page(BundleChoice({"scratch": FROM_SCRATCH}), pick_examples(recordings), read_library(out))
    _, address, _ = page.launch(
        server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, **launch_settings()
    )
    yield address
    page.close(verbose=False)


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio")
def test_a_visitor_answers_with_keys_and_sees_the_curve(browser, address, tmp_path):
    visit = Visit(browser, address)
    visit.open("Teach")
    visit.page.click("#teach-start")
    visit.page.wait_for_selector("text=type 2 to 9")
    visit.page.locator("#teach-labels textarea").fill("rooster, rain, clock tick")
    visit.page.click("#teach-start")
    visit.page.wait_for_selector("#question audio")
    assert "Is this" in visit.page.inner_text("#question h2")
    visit.page.locator("#question h2").click()  # the keys do not answer while a text is typed
    for number, key in enumerate(("1", "y", "n"), start=1):
        visit.page.keyboard.press(key)
        visit.page.wait_for_selector(f"#question .facts >> text={number} of")
    assert visit.page.locator("#question svg.curve polyline").count() == 1
    visit.page.keyboard.press("u")
    visit.page.wait_for_selector("#question .facts >> text=2 of")
    visit.page.click("#question [data-answer='2']")
    visit.page.wait_for_selector("#question .facts >> text=3 of")
    with visit.page.expect_download() as download:
        visit.page.click("text=Download the answers")
    download.value.save_as(tmp_path / "examples.csv")
    rows = list(csv.DictReader((tmp_path / "examples.csv").open()))
    assert len(rows) == 3
    assert rows[0]["label"] == "rooster"  # key 1
    assert rows[2]["label"] == "clock tick"
    assert visit.errors == []
