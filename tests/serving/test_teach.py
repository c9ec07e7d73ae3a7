"""Classes that are taught by examples and descriptions: what is learnt, what is written, and what is refused."""

import copy
import csv
import json
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from demo.bundle_choice import FROM_SCRATCH, SHIPPED
from demo.examples import EXAMPLE_SOUNDS
from demo.expected_score import expectation
from demo.labels.label_kinds import LabelKind, label_kinds
from export.triton import main as triton_main
from serving.audio.mono_stream import MonoStream
from serving.audio.sample_blocks import SampleBlock
from serving.bundle.bundle import open_bundle
from serving.bundle.manifest import write_manifest
from serving.doctor.bundle_check import examine_bundle
from serving.embedder import Embedder
from serving.errors import BundleError, LabelError, UnheardError, UsageError
from serving.label import main as label_main
from serving.server.operation_routes import describe_model
from serving.teach import main
from serving.teaching.example_sources import read_examples
from serving.teaching.lesson import Descriptions, with_classes
from serving.teaching.posterior import PlacedExamples, choose_weight, held_out_cosines, with_examples
from serving.teaching.rivals import find_rivals
from serving.teaching.taught_record import read_record
from serving.zeroshot import ZeroShot, unit_rows
from serving.zeroshot.zeroshot_file import read_zeroshot
from tests.bundle_copies import copy_bundle
from tests.conftest import RATE_HZ, small_sound
from tests.small_bundle import small_zeroshot

KINDS = ("tone", "noise", "clicks")


def write_examples(folder: Path, count: int = 4, seed: int = 0, seconds: float = 1.2) -> Path:
    """A folder of class folders: `count` short sounds of each kind, under names that no bundle has."""
    rng = np.random.default_rng(seed)
    for kind in KINDS:
        (folder / f"my {kind}").mkdir(parents=True)
        for i in range(count):
            soundfile.write(folder / f"my {kind}" / f"{i}.wav", small_sound(kind, rng, seconds), RATE_HZ)
    return folder


@pytest.fixture(scope="module", params=[SHIPPED, FROM_SCRATCH], ids=["whitened prototypes", "text objective"])
def source(request) -> Embedder:
    """Both kinds of map that a bundle can have."""
    return Embedder.load(request.param, "onnxruntime")


@pytest.fixture(scope="module")
def scratch() -> Embedder:
    return Embedder.load(FROM_SCRATCH, "onnxruntime")


@pytest.fixture(scope="module")
def textless_folder(tmp_path_factory) -> Path:
    """A bundle without a text model, whatever is installed."""
    return copy_bundle(FROM_SCRATCH, tmp_path_factory.mktemp("textless") / "bundle", text=False)


@pytest.fixture(scope="module")
def lesson_folder(tmp_path_factory) -> Path:
    """Three classes, four examples each."""
    return write_examples(tmp_path_factory.mktemp("lesson") / "examples")


@pytest.fixture(scope="module")
def taught_folder(lesson_folder, tmp_path_factory) -> Path:
    """A bundle that the command wrote."""
    out = tmp_path_factory.mktemp("taught") / "mine"
    assert main([str(FROM_SCRATCH), str(lesson_folder), "--out", str(out), "--backend", "onnxruntime"]) == 0
    return out


def fails(capsys, *arguments: object) -> str:
    """Run the command, expect exit code 2, and return its one line."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def by_kind(folder: Path) -> dict[str, list[Path]]:
    return {each.name: sorted(each.glob("*.wav")) for each in sorted(folder.iterdir())}


def test_new_sounds_of_taught_classes_are_named_and_old_classes_score_as_before(source, lesson_folder, tmp_path):
    taught = source.teach(by_kind(lesson_folder))
    rng = np.random.default_rng(9)
    sounds = {f"my {kind}": [small_sound(kind, rng, 2.0) for _ in range(4)] for kind in KINDS}
    for label, waves in sounds.items():
        for wave in waves:
            assert taught.classify(wave, RATE_HZ, list(sounds))[0][0] == label
            assert taught.classify(wave, RATE_HZ, offset=0.0)[0][0] == label  # among all classes of the bundle
    wave = sounds["my tone"][0]
    old = source.zeroshot.class_names
    np.testing.assert_array_equal(
        taught.zeroshot.scores(taught.embed(wave, RATE_HZ)[None], old),
        source.zeroshot.scores(source.embed(wave, RATE_HZ)[None], old),
    )
    assert source.zeroshot.class_names == old  # the source stays as it is
    assert taught.lesson is not None
    assert taught.lesson.scores["taught_accuracy"] >= 10 / 12  # by three examples a class, chance is 4 / 12


def test_what_is_saved_scores_as_what_was_taught(source, lesson_folder, tmp_path):
    taught = source.teach(by_kind(lesson_folder))
    taught.save(tmp_path / "mine")
    again = Embedder.load(tmp_path / "mine", "onnxruntime")
    wave = small_sound("clicks", np.random.default_rng(3))
    np.testing.assert_array_equal(again.embed(wave, RATE_HZ), taught.embed(wave, RATE_HZ))
    row = again.embed(wave, RATE_HZ)[None]
    np.testing.assert_allclose(again.zeroshot.similarities(row), taught.zeroshot.similarities(row), atol=1e-6)
    assert again.zeroshot.none_of_these(row) == taught.zeroshot.none_of_these(row)
    with pytest.raises(UsageError, match="exists already; give another folder, or overwrite=True to replace it"):
        taught.save(tmp_path / "mine")
    with pytest.raises(UsageError, match="taught nothing"):
        source.save(tmp_path / "other")


def test_a_taught_bundle_is_whole_and_comparable_with_its_source(taught_folder):
    source, taught = open_bundle(FROM_SCRATCH), open_bundle(taught_folder)
    assert taught.manifest.embedding_space == source.manifest.embedding_space
    changed = {name for name in taught.manifest.files if taught.manifest.files[name] != source.manifest.files.get(name)}
    assert changed == {"zeroshot.npz", "README.md", "taught.json"}
    assert set(source.manifest.files) <= set(taught.manifest.files)
    card = taught.read("README.md").decode()
    assert "## Taught by examples" in card
    assert "| my tone | 4 | 4 | 4 | 100.0% | none | none |" in card
    assert taught.manifest.scores["taught_accuracy"] == 1.0
    assert taught.manifest.scores["seen_accuracy"] == source.manifest.scores["seen_accuracy"]


def test_a_taught_bundle_labels_recordings(taught_folder, lesson_folder, tmp_path):
    out = tmp_path / "table.csv"
    words = "my tone,my noise,my clicks"
    assert label_main([str(taught_folder), str(lesson_folder), "--labels", words, "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    assert rows
    assert {Path(row["path"]).parts[0] == row["label"] for row in rows} == {True}


def test_the_last_line_of_the_command_is_json_with_each_class(lesson_folder, tmp_path, capsys):
    assert main([str(FROM_SCRATCH), str(lesson_folder), "--out", str(tmp_path / "a"), "--backend", "onnxruntime"]) == 0
    told = capsys.readouterr()
    result = json.loads(told.out.splitlines()[-1])
    assert result["taught"]["my noise"] == {
        "examples": 4, "recordings": 4, "description": None, "held_out": 4, "accuracy": 1.0,
        "rival": None,
    }  # fmt: skip
    assert result["classes"] == 13
    assert result["taught_accuracy"] == 1.0
    assert "4 of 4" in told.out


def test_a_label_is_shown_as_it_is(lesson_folder, tmp_path, capsys):
    labels = ("frog [/adult]", "frog [adult]", "frog :dog:")
    table = tmp_path / "list.csv"
    rows = [f"{lesson_folder / 'my tone' / f'{i}.wav'},,,{label}" for i, label in enumerate(labels)]
    table.write_text("\n".join(["file,start,end,label", *rows]))
    assert main([str(FROM_SCRATCH), str(table), "--out", str(tmp_path / "mine")]) == 0
    shown = capsys.readouterr().out
    assert all(shown.count(label) == 2 for label in labels)  # in the table and in the last line


def test_it_runs_without_torch_and_without_a_text_model(textless_folder, lesson_folder, tmp_path, without_torch):
    command = [
        sys.executable,
        "-m",
        "serving.teach",
        str(textless_folder),
        str(lesson_folder),
        "--out",
        str(tmp_path / "a"),
    ]
    done = subprocess.run(command, env=without_torch, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert open_bundle(tmp_path / "a").manifest.files["taught.json"]


def test_a_taught_bundle_is_served_shown_exported_and_examined(taught_folder, tmp_path, capsys):
    taught = Embedder.load(taught_folder, "onnxruntime")
    assert {"label": "my tone", "seen": True} in describe_model(taught)["classes"]
    labels = ["my tone", "rain", "a whistle"] if taught.labels.knows_text else ["my tone", "rain"]
    kinds = label_kinds(taught, taught.choose(labels), {})
    assert [kinds[label] for label in labels[:2]] == [LabelKind.TAUGHT, LabelKind.SEEN]
    assert "held-out examples" in expectation(taught.manifest.scores, kinds)
    findings = {each.what: each for each in examine_bundle(taught_folder)}
    assert findings["text model"].state != "broken"
    pytest.importorskip("tritonclient", reason="tritonclient is not installed")
    assert triton_main([str(taught_folder), "--out", str(tmp_path), "--name", "mine"]) == 0
    assert (tmp_path / "mine" / "config.pbtxt").is_file()


def test_a_signature_is_not_carried_over(lesson_folder, tmp_path):
    signed = shutil.copytree(FROM_SCRATCH, tmp_path / "signed")
    (signed / "signature.json").write_text("{}")
    assert main([str(signed), str(lesson_folder), "--out", str(tmp_path / "mine"), "--backend", "onnxruntime"]) == 0
    assert not (tmp_path / "mine" / "signature.json").exists()


def test_a_description_alone_ranks_as_the_typed_label_does(source):
    if not source.labels.knows_text:
        pytest.skip("the packages of the text model are not installed")
    text = "a low steady hum of a big machine"
    taught = source.teach({}, {"humming": text})
    row = source.embed(small_sound("tone", np.random.default_rng(1)), RATE_HZ)[None]
    typed = source.zeroshot.choose(["x"], lambda _: source.labels.encode(["humming"], {"humming": text}))
    np.testing.assert_allclose(taught.choose(["humming"]).cosines(row), typed.cosines(row), atol=1e-5)


def test_a_description_counts_instead_of_the_given_target_of_an_old_class(source):
    if not source.labels.knows_text:
        pytest.skip("the packages of the text model are not installed")
    zeroshot = source.zeroshot
    targets = np.roll(zeroshot.targets, 1, axis=0)
    moved = replace(zeroshot, given_targets=targets)
    name, other = zeroshot.class_names[:2]
    embedder = SimpleNamespace(zeroshot=moved, labels=source.labels.with_zeroshot(moved), bundle=source.bundle)
    taught = with_classes(embedder, Descriptions([name], {name: "a low steady hum of a big machine"}), ["new"])
    assert taught.class_names[-1] == "new"
    assert not taught.given_targets[0].any()
    np.testing.assert_allclose(taught.choose([other]).targets[0], targets[1], atol=1e-6)


def test_a_class_moves_from_its_description_to_its_examples(source):
    if not source.labels.knows_text:
        pytest.skip("the packages of the text model are not installed")
    rng = np.random.default_rng(4)
    waves = [(small_sound("clicks", rng, 1.0), RATE_HZ) for _ in range(16)]
    centre = unit_rows(
        source.zeroshot.place(np.stack([source.embed(*wave) for wave in waves])).mean(axis=0, keepdims=True)
    )[0]
    near_text, near_examples = [], []
    for count in (1, 4, 16):
        zeroshot = source.teach({"ticker": waves[:count]}, {"ticker": "a clock that ticks"}).zeroshot
        near_text.append(float(zeroshot.targets[-1] @ zeroshot.described_targets[-1]))
        near_examples.append(float(zeroshot.targets[-1] @ centre))
    assert near_text == sorted(near_text, reverse=True)
    assert near_examples == sorted(near_examples)
    assert near_examples[-1] > 0.9


def test_an_old_class_that_gets_examples_moves_and_keeps_its_name(scratch):
    rng = np.random.default_rng(5)
    taught = scratch.teach({"Clock Tick": [(small_sound("clicks", rng, 1.0), RATE_HZ) for _ in range(3)]})
    assert taught.zeroshot.class_names == scratch.zeroshot.class_names
    row = taught.zeroshot.class_names.index("clock_tick")
    moved = (taught.zeroshot.targets != scratch.zeroshot.targets).any(axis=1)
    assert moved.tolist() == [i == row for i in range(len(moved))]


def test_held_out_cosines_are_those_of_a_map_that_never_heard_the_recording():
    rng = np.random.default_rng(0)
    prior = small_zeroshot()
    prior = ZeroShot(prior.mean, prior.projection, prior.class_names, unit_rows(prior.class_vectors), prior.seen, 10.0)
    rows = unit_rows(rng.standard_normal((9, 8)).astype(np.float32))
    examples = PlacedExamples(rows, np.array([0, 0, 0, 1, 1, 1, 2, 2, 0]), np.array([0, 0, 1, 1, 2, 3, 4, 5, 6]))
    cosines = held_out_cosines(prior, examples, 2.0)
    for recording in range(7):
        own = examples.recordings == recording
        others = PlacedExamples(rows[~own], examples.classes[~own], examples.recordings[~own])
        expected = rows[own] @ with_examples(prior, others, 2.0).targets.T
        np.testing.assert_allclose(cosines[own], expected, atol=1e-5)


def test_held_out_examples_choose_the_weight_of_the_descriptions():
    """Descriptions that point at the right place get a larger weight than those that point at another class."""
    rng = np.random.default_rng(1)
    centres = unit_rows(rng.standard_normal((3, 8)).astype(np.float32))
    labels = np.repeat(np.arange(3), 6)
    rows = unit_rows(centres[labels] + 0.6 * rng.standard_normal((18, 8)).astype(np.float32))
    examples = PlacedExamples(rows, labels, np.arange(18))
    zeroshot = small_zeroshot()

    def weight(texts: np.ndarray) -> float:
        return choose_weight(
            ZeroShot(zeroshot.mean, zeroshot.projection, zeroshot.class_names, texts, zeroshot.seen, 10.0), examples
        )

    assert weight(centres) > weight(centres[[1, 2, 0]])


def test_a_map_that_is_too_sure_of_itself_does_not_give_texts_a_large_weight():
    """With one temperature for all it did: between text and examples cosines are smaller, so it looks less sure."""
    rng = np.random.default_rng(2)
    centres, texts = (unit_rows(rng.standard_normal((3, 8)).astype(np.float32)) for _ in range(2))
    labels = np.repeat(np.arange(3), 20)
    rows = unit_rows(centres[labels] + 2.0 * rng.standard_normal((60, 8)).astype(np.float32))
    examples = PlacedExamples(rows, labels, np.arange(60))
    zeroshot = small_zeroshot()
    sure, unsure = (
        choose_weight(
            ZeroShot(zeroshot.mean, zeroshot.projection, zeroshot.class_names, texts, zeroshot.seen, temperature),
            examples,
        )
        for temperature in (50.0, 1.0)
    )
    assert sure == unsure <= 2.0


def test_an_example_that_is_a_stretch_embeds_as_the_window_there(scratch, tmp_path):
    rng = np.random.default_rng(2)
    window = scratch.manifest.window
    sound = np.concatenate([small_sound(kind, rng, 4.8) for kind in KINDS])
    soundfile.write(tmp_path / "long.wav", sound, RATE_HZ)
    with scratch.stream(tmp_path / "long.wav") as stream:
        blocks = list(stream)
    (tmp_path / "list.csv").write_text(
        "file,start,end,label\n"
        + "".join(
            f"long.wav,{start},{end},{label}\n"
            for start, end, label in zip(blocks[0].starts_s, blocks[0].ends_s, "abc", strict=True)
        )
        + "long.wav,1,2,\n"  # not labelled yet
    )
    assert main([str(FROM_SCRATCH), str(tmp_path / "list.csv"), "--out", str(tmp_path / "mine")]) == 0
    taught = read_zeroshot(tmp_path / "mine" / "zeroshot.npz")
    assert taught.class_names[-3:] == ["a", "b", "c"]
    assert taught.example_sums is not None
    # The same samples in another batch: a backend rounds otherwise.
    np.testing.assert_allclose(taught.example_sums[-3:], taught.place(blocks[0].rows), atol=1e-3)
    assert window.hop_samples == 4.8 * RATE_HZ


def test_an_interrupted_lesson_does_not_read_a_long_recording_to_its_end(tmp_path, monkeypatch):
    rng, read = np.random.default_rng(3), 0
    soundfile.write(tmp_path / "night.wav", np.tile(small_sound("tone", rng, 60), 10), RATE_HZ)
    (tmp_path / "list.csv").write_text("file,start,end,label\nnight.wav,1,2,a\nnight.wav,598,599,a\n")
    real = MonoStream._next

    def read_block(self: MonoStream) -> SampleBlock | None:
        nonlocal read
        read += 1
        if read == 3:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # Ctrl-C
        time.sleep(0.02)
        return real(self)

    monkeypatch.setattr("serving.audio.sample_blocks.BLOCK_VALUES", 2**12)  # 2300 blocks
    monkeypatch.setattr(MonoStream, "_next", read_block)
    assert main([str(FROM_SCRATCH), str(tmp_path / "list.csv"), "--out", str(tmp_path / "mine")]) == 130
    assert read < 1000
    assert not (tmp_path / "mine").exists()


def test_teaching_again_leaves_out_what_was_taught_before(taught_folder, lesson_folder, tmp_path, capsys):
    more = write_examples(tmp_path / "more", count=2, seed=7)
    for each in lesson_folder.rglob("*.wav"):
        shutil.copy(each, more / each.parent.name / f"old-{each.name}")
    assert main([str(taught_folder), str(more), "--out", str(tmp_path / "twice")]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["taught"]["my tone"]["examples"] == 6
    assert "were left out: the bundle was taught them before" in fails_or_told(capsys, taught_folder, more, tmp_path)
    assert "taught all 12 of them before" in fails(capsys, taught_folder, lesson_folder, "--out", tmp_path / "third")
    card = open_bundle(tmp_path / "twice").read("README.md").decode()
    assert card.count("## Taught by examples") == card.count("## Scores") == 1


def test_a_recording_of_an_earlier_lesson_is_not_held_out(tmp_path, capsys):
    """Its examples of then are still in the map, so it would be named by itself."""
    rng = np.random.default_rng(3)
    for name in ("first", "second", "third"):
        soundfile.write(tmp_path / f"{name}.wav", small_sound("tone", rng, 6.0), RATE_HZ)

    def teach(bundle: Path, out: str, start: int, *names: str) -> dict:
        table = tmp_path / f"{out}.csv"
        rows = [f"{name}.wav,{start + i},{start + i + 1},my tone" for name in names for i in range(2)]
        table.write_text("\n".join(["file,start,end,label", *rows]))
        capsys.readouterr()
        assert main([str(bundle), str(table), "--out", str(tmp_path / out)]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    first = teach(FROM_SCRATCH, "one", 0, "first", "second")
    assert (first["taught"]["my tone"]["held_out"], first["doubts"]) == (4, [])
    again = teach(tmp_path / "one", "two", 2, "first", "second")
    assert again["taught_accuracy_all"] is None
    assert "4 of 4 examples are not held out: an earlier lesson had others of their recordings" in again["doubts"]
    third = teach(tmp_path / "two", "three", 4, "first", "second", "third")
    assert (third["taught"]["my tone"]["held_out"], third["taught"]["my tone"]["examples"]) == (2, 14)


def fails_or_told(capsys, bundle: Path, examples: Path, tmp_path: Path) -> str:
    capsys.readouterr()
    assert main([str(bundle), str(examples), "--out", str(tmp_path / "told")]) == 0
    return capsys.readouterr().err


def test_two_lessons_in_python_are_saved_as_one(scratch, tmp_path):
    rng = np.random.default_rng(6)
    tones, noises = ([(small_sound(kind, rng, 1.0), RATE_HZ) for _ in range(2)] for kind in ("tone", "noise"))
    taught = scratch.teach({"my tone": tones}).teach({"my noise": noises})
    taught.save(tmp_path / "both")
    record = json.loads((tmp_path / "both" / "taught.json").read_text())["classes"]
    assert {name: len(each["keys"]) for name, each in record.items()} == {"my tone": 2, "my noise": 2}
    again = scratch.teach({"my tone": tones}).teach({"my tone": [*tones, noises[0]]})
    assert again.lesson is not None
    assert len(again.lesson.classes["my tone"].keys) == 3  # the tones count once


def test_a_taught_embedder_can_be_copied_and_pickled(scratch):
    rng = np.random.default_rng(8)
    taught = scratch.teach({"my tone": [(small_sound("tone", rng, 1.0), RATE_HZ)]})
    for other in (copy.deepcopy(taught), pickle.loads(pickle.dumps(taught))):
        assert other.zeroshot.class_names == taught.zeroshot.class_names
        np.testing.assert_array_equal(other.zeroshot.targets, taught.zeroshot.targets)


def test_one_example_is_enough_and_has_no_held_out_number(lesson_folder, tmp_path, capsys):
    single = tmp_path / "single"
    for kind in ("my tone", "my noise"):
        (single / kind).mkdir(parents=True)
        shutil.copy(lesson_folder / kind / "0.wav", single / kind)
    assert main([str(FROM_SCRATCH), str(single), "--out", str(tmp_path / "a")]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out.splitlines()[-1])["taught_accuracy"] is None
    assert "not cross-validated, because the examples are of one recording: my noise, my tone" in told.err


def test_unreadable_and_silent_examples_are_skipped_with_a_warning(lesson_folder, tmp_path, capsys):
    folder = shutil.copytree(lesson_folder, tmp_path / "examples")
    (folder / "my tone" / "broken.wav").write_bytes(b"no sound")
    soundfile.write(folder / "my noise" / "silent.wav", np.zeros(RATE_HZ), RATE_HZ)
    assert main([str(FROM_SCRATCH), str(folder), "--out", str(tmp_path / "a")]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out.splitlines()[-1])["skipped"] == 2
    warnings = [line for line in told.err.splitlines() if line.startswith("warning: ")]
    assert any("broken.wav" in line for line in warnings)
    assert any("silent.wav: is silent" in line for line in warnings)


def test_recordings_beside_the_class_folders_are_left_out_with_a_warning(lesson_folder, tmp_path, capsys):
    folder = shutil.copytree(lesson_folder, tmp_path / "examples")
    shutil.copy(folder / "my tone" / "0.wav", folder / "lost.wav")
    assert main([str(FROM_SCRATCH), str(folder), "--out", str(tmp_path / "a")]) == 0
    told = capsys.readouterr()
    assert "1 recordings beside the class folders are left out" in told.err
    assert sum(each["examples"] for each in json.loads(told.out.splitlines()[-1])["taught"].values()) == 12


def test_examples_that_contradict_their_description_are_named(scratch, lesson_folder, tmp_path, capsys):
    if not scratch.labels.knows_text:
        pytest.skip("the packages of the text model are not installed")
    texts = {"my noise": "rain", "my clicks": "clock tick"}
    rain = scratch.teach(
        {"my noise": by_kind(lesson_folder)["my noise"], "my clicks": by_kind(lesson_folder)["my clicks"]}, texts
    )
    swapped = scratch.teach(
        {"my noise": by_kind(lesson_folder)["my clicks"], "my clicks": by_kind(lesson_folder)["my noise"]}, texts
    )
    assert rain.lesson is not None
    assert swapped.lesson is not None
    assert rain.lesson.doubts == []
    assert [doubt.partition(":")[0] for doubt in swapped.lesson.doubts] == ["my noise", "my clicks"]
    assert ".0 of" not in "".join(swapped.lesson.doubts)


def test_an_example_under_another_label_than_in_an_earlier_lesson_is_refused_with_the_way_out(scratch):
    """It was left out, as if it had been taught under this label."""
    wave = (small_sound("tone", np.random.default_rng(0)), RATE_HZ)
    taught = scratch.teach({"beep": [wave]})
    other = (small_sound("noise", np.random.default_rng(0)), RATE_HZ)
    with pytest.raises(
        UsageError, match="one of whistle before, as beep; to change that, teach the bundle that it was"
    ):
        taught.teach({"whistle": [wave, other]})
    with pytest.raises(UsageError, match="taught all 1 of them before"):
        taught.teach({"Beep": [wave]})


def test_messages_in_python_speak_of_parameters_and_not_of_flags(scratch, textless_folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    (tmp_path / "key.pub").write_text("no key")
    taught = scratch.teach({"beep": [(small_sound("tone", np.random.default_rng(0)), RATE_HZ)]})

    def told(work: Callable[[], object]) -> str:
        with pytest.raises(UnheardError) as raised:
            work()
        assert "--" not in str(raised.value)
        return str(raised.value)

    assert "or overwrite=True to replace it" in told(lambda: taught.save(tmp_path / "mine"))
    assert "so overwrite=True will not replace it" in told(lambda: taught.save(tmp_path / "mine", overwrite=True))
    assert "give another folder" in told(lambda: taught.save(tmp_path / "key.pub" / "mine"))
    without_text = Embedder.load(textless_folder, "onnxruntime")
    told(lambda: without_text.teach({}, {"hum": "a low hum"}))
    assert told(lambda: without_text.teach({}, {"dog": "a bark"})).startswith("descriptions: got dog, but")
    told(lambda: without_text.classify(np.zeros(16_000, np.float32), RATE_HZ, ["hum"]))
    assert told(lambda: Embedder.load(FROM_SCRATCH, "onnxruntime", "bf16")).startswith("precision: got bf16")
    told(lambda: Embedder.load(FROM_SCRATCH, trusted=[tmp_path / "key.pub"]))
    told(lambda: scratch.embed_files([EXAMPLE_SOUNDS / "rain.ogg"], processes=0))


def test_a_class_that_the_bundle_knows_under_another_name_is_told_as_the_rival(lesson_folder, tmp_path, capsys):
    old, new, again = (tmp_path / name for name in ("old", "new", "again"))
    assert main([str(FROM_SCRATCH), str(write_examples(tmp_path / "a", 6, seed=1)), "--out", str(old)]) == 0
    taught = write_examples(tmp_path / "b", 3, seed=2)
    (taught / "my tone").rename(taught / "beep")
    (taught / "my noise").rename(taught / "hiss")
    shutil.rmtree(taught / "my clicks")
    capsys.readouterr()
    assert main([str(old), str(taught), "--out", str(new)]) == 0
    told = capsys.readouterr()
    result = json.loads(told.out.splitlines()[-1])
    rivals = {name: each["rival"] for name, each in result["taught"].items()}
    assert rivals["beep"]["name"] == "my tone"
    taken = rivals["beep"]["taken"]
    assert rivals["beep"]["held_out"] == 3
    assert rivals["my tone"] is None
    assert any(line.startswith(f"beep: {taken} of 3 held-out examples") for line in result["doubts"])
    assert f"warning: beep: {taken} of 3 held-out examples are named my tone" in told.err
    assert "teach the examples as my tone" in told.err
    assert f"| my tone: {taken} |" in (new / "README.md").read_text()
    more = write_examples(tmp_path / "c", 2, seed=3)
    assert main([str(new), str(more), "--out", str(again)]) == 0  # what it tells of an earlier lesson stays
    assert f"| my tone: {taken} |" in (again / "README.md").read_text()


def test_held_out_examples_are_judged_by_the_ranking_that_the_bundle_gives(scratch, lesson_folder):
    """Among 3 seen and 10 unseen classes a balanced map takes 1.1 + log(3 / 10) off the seen ones, not 1.1."""
    unheard = np.zeros(len(scratch.zeroshot.class_names), bool)
    prior = replace(scratch.zeroshot, balanced=True, offset=1.1, temperature=1.0, seen=unheard)
    embedder = copy.copy(scratch)
    embedder.labels = scratch.labels.with_zeroshot(prior)
    taught = embedder.teach(by_kind(lesson_folder))
    assert taught.zeroshot.own_offset == pytest.approx(-0.104, abs=1e-3)
    assert taught.lesson.scores["taught_accuracy_all"] == taught.lesson.scores["taught_accuracy"] == 1.0
    assert not any(each.rival for each in taught.lesson.classes.values())


@pytest.mark.parametrize(
    ("named", "rival"),
    [
        ("aaaa", None),
        ("aaab", None),  # one example says nothing
        ("aabb", ("b", 2)),
        ("aaaabb", ("b", 2)),
        ("aaaaabb", None),  # less than a third
        ("bbcca", ("b", 2)),
        ("bbccca", ("c", 3)),
    ],
)
def test_a_rival_takes_two_held_out_examples_and_a_third_of_them(named, rival):
    similarities = np.array([[letter == each for each in "abc"] for letter in named], np.float32)
    found = find_rivals(list("abc"), similarities, np.zeros(len(named), np.intp)).get("a")
    assert (found and (found.name, found.taken)) == rival


def test_a_bundle_that_was_taught_before_rivals_were_written_opens(taught_folder, tmp_path):
    folder = shutil.copytree(taught_folder, tmp_path / "old")
    record = json.loads((folder / "taught.json").read_text())
    for each in record["classes"].values():
        del each["rival"]
    manifest = open_bundle(folder).manifest
    (folder / "taught.json").write_text(json.dumps(record))
    write_manifest(folder, replace(manifest, files={}))
    assert {name: each.rival for name, each in read_record(open_bundle(folder)).items()} == dict.fromkeys(
        ["my clicks", "my noise", "my tone"]
    )
    record["classes"]["my tone"]["rival"] = {"name": "x"}
    (folder / "taught.json").write_text(json.dumps(record))
    write_manifest(folder, replace(manifest, files={}))
    with pytest.raises(BundleError, match="is damaged"):
        read_record(open_bundle(folder))


def test_wrong_examples_are_refused_in_one_line_and_nothing_is_written(lesson_folder, tmp_path, capsys):
    out = tmp_path / "out"

    def refused(examples: Path, *more: object) -> str:
        line = fails(capsys, FROM_SCRATCH, examples, "--out", out, *more)
        assert not out.exists()
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []
        return line

    def folder(name: str) -> Path:
        return shutil.copytree(lesson_folder, tmp_path / name)

    (tmp_path / "empty").mkdir()
    assert "holds no folder" in refused(tmp_path / "empty")
    assert "is not there" in refused(tmp_path / "nowhere")
    (folder("hollow") / "my dog").mkdir()
    assert "my dog: holds no recording" in refused(tmp_path / "hollow")
    shutil.copytree(lesson_folder / "my tone", folder("cases") / "My Tone")
    assert "My Tone, my tone are the same label" in refused(tmp_path / "cases")
    shutil.copy(lesson_folder / "my tone" / "0.wav", folder("double") / "my noise" / "x.wav")
    line = refused(tmp_path / "double")
    assert "my noise, my tone" in line
    assert "the same sound" in line
    for path in folder("unreadable").rglob("*.wav"):
        path.write_bytes(b"no sound")
    assert "none of the 12 examples can be used" in refused(tmp_path / "unreadable")
    for path in (folder("lost") / "my tone").glob("*.wav"):
        path.write_bytes(b"no sound")
    assert "no example of my tone can be used" in refused(tmp_path / "lost")


def test_a_corrected_table_of_labels_is_taught_with_the_folder_that_was_labelled(lesson_folder, tmp_path, capsys):
    table = tmp_path / "table.csv"
    labelled = [
        FROM_SCRATCH,
        lesson_folder,
        "--labels",
        "rain, clock tick",
        "--out",
        table,
        "--threshold",
        -1,
        "--probability",
        0,
    ]
    assert label_main([*map(str, labelled), "--backend", "onnxruntime"]) == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows([row | {"label": Path(row["path"]).parent.name} for row in rows])
    assert "give --recordings FOLDER" in fails(capsys, FROM_SCRATCH, table, "--out", tmp_path / "out")
    arguments = [FROM_SCRATCH, table, "--recordings", lesson_folder, "--out", tmp_path / "out"]
    assert main([*map(str, arguments), "--backend", "onnxruntime"]) == 0
    taught = json.loads(capsys.readouterr().out.splitlines()[-1])["taught"]
    assert {name: each["examples"] for name, each in taught.items()} == dict.fromkeys(
        ["my tone", "my noise", "my clicks"], 4
    )
    assert "--recordings: goes with tables" in fails(
        capsys, FROM_SCRATCH, lesson_folder, "--recordings", lesson_folder, "--out", tmp_path / "other"
    )


def test_a_list_with_semicolons_is_read(tmp_path):
    (tmp_path / "0.wav").touch()
    (tmp_path / "list.csv").write_text("file;start;end;label\n0.wav;0.5;1;a\n\n1.wav;;;b\n", encoding="utf-8-sig")
    first, second = read_examples(tmp_path / "list.csv")
    assert (first.label, first.source, first.start_s, first.end_s) == ("a", tmp_path / "0.wav", 0.5, 1.0)
    assert second.is_whole
    assert second.where.endswith("row 4")


def test_only_line_ends_end_a_row(tmp_path):
    (tmp_path / "0.wav").touch()
    (tmp_path / "list.csv").write_text(
        "file,label,note\r\n0.wav,a,one\u2028two\r\n1.wav,b,\x0b\x0c\x85\r\n", newline=""
    )
    assert [(each.label, each.where[-5:]) for each in read_examples(tmp_path / "list.csv")] == [
        ("a", "row 2"),
        ("b", "row 3"),
    ]


def test_an_apostrophe_before_a_formula_in_a_table_belongs_to_no_name(tmp_path):
    (tmp_path / "-dog.wav").touch()
    (tmp_path / "list.csv").write_text("path,label\n'-dog.wav,'=my dog\n'twas.wav,'my owl\n")
    first, second = read_examples(tmp_path / "list.csv")
    assert (first.source, first.label) == (tmp_path / "-dog.wav", "=my dog")
    assert (second.source, second.label) == (tmp_path / "'twas.wav", "'my owl")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            ["file,start,end", "0.wav,0,1"],
            "got the columns file, start, end; wanted the columns file, start, end, label",
        ),
        ([], "no row has a label"),
        ([",,,", ",,,"], "list.csv: all of its cells are empty; wanted the columns file, start, end, label"),
        (["file,start,end,label", "0.wav,2,1,a"], "row 2: starts at 2 s and ends at 1 s"),
        (["file,start,end,label", "0.wav,0.5,,a"], "row 2: got a start without an end; wanted both, or neither"),
        (["file,start,end,label", "0.wav,,1,a"], "row 2: got an end without a start; wanted both, or neither"),
        (["file,start,label", "0.wav,0.5,a"], "row 2: got a start without an end"),
        (["file,start,end,label", "0.wav,x,1,a"], "row 2: start is 'x'; wanted seconds"),
        (["file;start;end;label", "0.wav;0,5;1,5;a"], "row 2: start is '0,5'; wanted seconds with a decimal point"),
        (["file,start,end,label", "0.wav,0,5,1,5,a"], "row 2: got 6 cells, but the first row has 4"),
        (["file,start,end,label", "0.wav,-1,1,a"], "row 2: start is '-1'"),
        (["file,start,end,label", ",,,a"], "row 2: has no file"),
        (["file,label", "0.wav,a", "0.wav,A"], "a, A are the same label"),
        (["file,start,end,label", "0.wav,0,,"], "no row has a label"),
        (["file,start,end,label", "0.wav,50,60,a"], "row 2: got 50 to 60 s; the recording ends at 1.200 s"),
        (["file,start,end,label", "0.wav,0,9,a"], "row 2: got 0 to 9 s; the recording ends at 1.200 s"),
        (["file,start,end,label", '0.wav,0,1,"a'], "cannot be read as CSV"),
        (["file,start,end,label", "0.wav,0,1,a", "0.wav,0,1,b"], "row 3: the same sound is an example of a, b"),
        (["file,label", "gone.wav,a"], "none of its recordings is there, such as"),
    ],
)
def test_a_wrong_list_is_refused_with_the_row(lesson_folder, tmp_path, capsys, lines: Sequence[str], reason: str):
    shutil.copy(lesson_folder / "my tone" / "0.wav", tmp_path)
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    assert reason in fails(capsys, FROM_SCRATCH, tmp_path / "list.csv", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_words_of_descriptions_that_the_text_model_does_not_know_are_told(tmp_path, capsys):
    (tmp_path / "classes.csv").write_text("label,description\nZilpzalp,whistle zzyx\nowl,a hoot\nhiss qwv,\n")
    assert (
        main([str(FROM_SCRATCH), "--descriptions", str(tmp_path / "classes.csv"), "--out", str(tmp_path / "out")]) == 0
    )
    captured = capsys.readouterr()
    unknown = {"whistle zzyx": ["zzyx"], "hiss qwv": ["qwv"]}
    assert json.loads(captured.out.splitlines()[-1])["unknown_words"] == unknown
    assert "'whistle zzyx': the text model does not know zzyx" in captured.err.splitlines()


def test_wrong_flags_are_refused(textless_folder, lesson_folder, tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").touch()
    line = fails(capsys, FROM_SCRATCH, lesson_folder, "--out", tmp_path / "taken")
    assert "exists already; give another folder, or --overwrite to replace it" in line
    assert "has no manifest.json" in fails(
        capsys, FROM_SCRATCH, lesson_folder, "--out", tmp_path / "taken", "--overwrite"
    )
    assert "give examples, --descriptions, or both" in fails(capsys, FROM_SCRATCH, "--out", tmp_path / "out")
    (tmp_path / "classes.csv").write_text("label,description\nmy tone,a whistle\n")
    line = fails(
        capsys, textless_folder, lesson_folder, "--descriptions", tmp_path / "classes.csv", "--out", tmp_path / "out"
    )
    assert "text model" in line
    (tmp_path / "twice.csv").write_text("label,description\nowl,a hoot\nowl,a shriek\n")
    assert "got owl more than once" in fails(
        capsys, FROM_SCRATCH, "--descriptions", tmp_path / "twice.csv", "--out", tmp_path / "out"
    )
    assert "--descriptions" in fails(
        capsys, FROM_SCRATCH, "--descriptions", tmp_path / "gone.csv", "--out", tmp_path / "out"
    )


def test_wrong_examples_in_python_are_refused(scratch):
    wave = np.zeros(RATE_HZ, np.float32)
    for examples in ({"a": []}, {"a": "a.wav"}, {"a": [3]}, {}, ["a.wav"]):
        with pytest.raises(UsageError):
            scratch.teach(examples)
    with pytest.raises(LabelError):
        scratch.teach({"a": [(wave, RATE_HZ)], "A": [(wave, RATE_HZ)]})
    with pytest.raises(LabelError, match="labels: got 3; wanted a text"):
        scratch.teach({3: [(wave, RATE_HZ)]})
    with pytest.raises(LabelError, match="descriptions: a: got None; wanted a text"):
        scratch.teach({"a": [(wave, RATE_HZ)]}, {"a": None})
