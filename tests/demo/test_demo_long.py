"""Long recordings in the demo: read block by block, named while they are read, and saved as tables."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from demo.embedded_recording import MAX_SECONDS, embed_recording
from demo.heard import Heard, for_drawing, heard
from demo.heard_table import write_table
from demo.labels.ranked_labels import rank_labels
from demo.long_recording import Visitor, Words, draw_progress
from demo.streamed_recording import embed_any_length, stream_recording
from serving.audio import file_seconds, read_audio
from serving.errors import AudioError, DurationError

RATE_HZ = 16_000
MINUTES = 15


@pytest.fixture(scope="module")
def long_file(recordings, tmp_path_factory) -> Path:
    """15 minutes: five of noise, five of a tone, five of noise."""
    path = tmp_path_factory.mktemp("long") / "20240501_060000.wav"
    five = [
        np.resize(read_audio(recordings / kind / "0.wav")[0][:, 0], 5 * 60 * RATE_HZ)
        for kind in ("noise", "tone", "noise")
    ]
    soundfile.write(path, np.concatenate(five), RATE_HZ)
    return path


@pytest.fixture(scope="module")
def embedded(embedder, long_file):
    return embed_any_length(embedder, long_file)


def stretches_of(embedder, embedded):
    ranked = rank_labels(embedder, embedded.rows, None, window=embedded.window)
    labels = ranked.named_windows(embedded.silent_windows)
    return ranked, heard(embedded.starts_s, embedded.ends_s, labels, [share for _, share in ranked.by_window])


def test_a_long_recording_is_named_without_its_waveform_in_memory(embedder, embedded, long_file):
    with pytest.raises(DurationError):
        embed_recording(embedder, long_file)
    assert len(embedded.wave) == 0
    assert embedded.seconds == MINUTES * 60
    assert embedded.rows.shape == (embedder.manifest.window.count(MINUTES * 60 * RATE_HZ), 128)
    _, stretches = stretches_of(embedder, embedded)
    assert [stretch.label for stretch in stretches] == ["noise", "tone", "noise"]
    window_s = embedder.manifest.window.seconds
    assert [stretch.start_s for stretch in stretches] == pytest.approx([0, 300, 600], abs=window_s)


def test_what_has_been_read_so_far_grows_to_the_whole(embedder, embedded, long_file, monkeypatch):
    monkeypatch.setattr("demo.streamed_recording.EVERY_S", 0.0)
    steps = list(stream_recording(embedder, long_file))
    assert len(steps) > 2
    assert [is_whole for _, is_whole in steps] == [False] * (len(steps) - 1) + [True]
    lengths = [len(step.rows) for step, _ in steps]
    assert lengths == sorted(lengths)
    first, last = steps[0][0], steps[-1][0]
    assert np.array_equal(first.rows, last.rows[: len(first.rows)])
    assert np.array_equal(last.rows, embedded.rows)
    assert 0 < first.seconds < last.seconds


def test_half_overlap_doubles_the_windows_and_leaves_no_gap(embedder, recordings, tmp_path):
    window = embedder.manifest.window
    soundfile.write(
        tmp_path / "tone.wav",
        np.resize(read_audio(recordings / "tone" / "0.wav")[0][:, 0], 4 * window.samples),
        window.rate_hz,
    )
    half = embed_recording(embedder, tmp_path / "tone.wav", window.seconds / 2)
    assert len(half.rows) == 7
    assert half.starts_s[0] == 0
    assert np.array_equal(half.starts_s[1:], half.ends_s[:-1])
    assert half.ends_s[-1] == pytest.approx(4 * window.seconds)
    assert half.starts_s[1] == pytest.approx(0.75 * window.seconds)  # its middle part, one hop long


@pytest.mark.parametrize(
    ("form", "suffix"), [("csv", ".csv"), ("raven", ".selections.txt"), ("audacity", ".labels.txt")]
)
def test_what_is_heard_is_saved_as_a_table(embedder, embedded, form, suffix):
    ranked, stretches = stretches_of(embedder, embedded)
    name, text = write_table(form, embedder, embedded, ranked, stretches)
    assert name == "20240501_060000" + suffix
    assert str(Path(embedded.path).parent) not in text
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["label"] for row in rows] == ["noise", "tone", "noise"]
        assert [float(row["start_s"]) for row in rows] == pytest.approx([each.start_s for each in stretches], abs=1e-6)
        assert rows[0]["path"] == "20240501_060000.wav"
        assert (rows[0]["recorded_at"], rows[0]["recorded_from"]) == ("2024-05-01T06:00:00.000", "name")
        assert sum(int(row["windows"]) for row in rows) == len(embedded.rows)
    elif form == "raven":
        rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
        assert [row["Annotation"] for row in rows] == ["noise", "tone", "noise"]
        assert rows[0]["Recorded Begin"] == "2024-05-01T06:00:00.000"
    else:
        rows = [line.split("\t") for line in text.splitlines()]
        assert [row[2] for row in rows] == ["noise", "tone", "noise"]


def test_a_long_file_that_breaks_off_is_named_as_far_as_it_goes(embedder, long_file, tmp_path):
    broken = tmp_path / "broken.flac"
    soundfile.write(broken, soundfile.read(long_file, dtype="int16")[0], RATE_HZ)
    content = broken.read_bytes()
    broken.write_bytes(content[: int(0.9 * len(content))])
    embedded = embed_any_length(embedder, broken)
    assert MAX_SECONDS < embedded.seconds < MINUTES * 60
    assert len(embedded.warnings) == 1
    assert "broken.flac" in embedded.warnings[0]
    assert str(tmp_path) not in embedded.warnings[0]


def test_a_long_file_without_sound_in_it_is_refused_by_its_name_alone(embedder, tmp_path):
    path = tmp_path / "words.wav"
    path.write_text("no sound")
    with pytest.raises(AudioError, match=r"^words\.wav: "):
        list(stream_recording(embedder, path))
    path.unlink()
    with pytest.raises(AudioError, match=r"^words\.wav: no longer exists; send it again$"):
        list(stream_recording(embedder, path))


def test_thousands_of_stretches_are_drawn_as_what_is_heard_longest():
    stretches = [Heard("ab"[i % 2], i + 0.0, i + (0.6 if i % 2 else 1.0), 0.9) for i in range(10_000)]
    drawn = for_drawing(stretches, 10_000, 100)
    assert len(drawn) <= 100
    assert {stretch.label for stretch in drawn} == {"a"}
    assert (drawn[0].start_s, drawn[-1].end_s) == (0, 10_000)
    assert for_drawing(stretches[:50], 10_000, 100) == stretches[:50]


def test_the_progress_says_how_much_has_been_read(embedded, long_file):
    text = draw_progress(embedded, file_seconds(long_file) or 0.0)
    assert "read <b>15:00</b> of 15:00" in text
    assert "times as fast as it plays" in text


def test_a_job_is_taken_once_and_ends_with_the_next_sound():
    visitor = Visitor()
    visitor.choose(Words("", 0.0, ""))
    visitor.put("a.wav", "bundle", "none")
    job = visitor.take()
    assert job is not None
    assert (job.path, job.number) == ("a.wav", visitor.number)
    assert visitor.take() is None
    visitor.put("a.wav", "bundle", "none")
    visitor.choose(Words("", 0.0, ""))
    assert visitor.take() is None
    assert visitor.number != job.number
