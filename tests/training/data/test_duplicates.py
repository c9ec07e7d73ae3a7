"""The same file twice is found by its content and reported where it joins training and judging."""

from dataclasses import replace
from pathlib import Path

import pytest

from serving.errors import DataError
from training.data import content_hash
from training.data.clips import LabelledClip
from training.data.duplicates import SharedFiles, duplicates, shared_files, with_two_labels


@pytest.fixture
def write(tmp_path):
    """Write files of given contents: clips in that order."""

    def write(**contents: bytes) -> list[LabelledClip]:
        clips = []
        for name, content in contents.items():
            path = tmp_path / f"{name}.wav"
            path.write_bytes(content)
            clips.append(LabelledClip(path, 0, name, None))
        return clips

    return write


def shared_in(parts: dict[str, list[LabelledClip]]) -> list[SharedFiles]:
    return shared_files(duplicates([clip for clips in parts.values() for clip in clips]), parts)


def test_files_of_one_content_are_a_group_whatever_their_names(write):
    a, b, c, d, e = write(a=b"dog", b=b"cat", c=b"dog", d=b"rain", e=b"dog")
    assert duplicates([a, b, c, d, e]) == [(a, c, e)]
    assert duplicates([a, b, d]) == []


def test_only_files_of_equal_size_are_read(write, monkeypatch):
    clips = write(a=b"1", b=b"22", c=b"333", d=b"444")
    read: list[str] = []
    record_of = content_hash.record_of

    def reading(path: Path):
        read.append(path.stem)
        return record_of(path)

    monkeypatch.setattr(content_hash, "record_of", reading)
    assert duplicates(clips) == []
    assert read == ["c", "d"]


def test_files_shared_between_parts_are_reported_once_for_each_pair_of_parts(write):
    a, b, c, d, e, f = write(a=b"dog", b=b"cat", c=b"cat", d=b"dog", e=b"dog", f=b"rain")
    found = shared_in({"train": [a, b, f], "validation": [c, d], "test": [e]})
    assert [(shared.parts, shared.pairs) for shared in found] == [
        (("train", "validation"), ((a, d), (b, c))),
        (("train", "test"), ((a, e),)),
        (("validation", "test"), ((d, e),)),
    ]
    first, second, _ = (shared.line() for shared in found)
    assert "train and validation share 2 recordings" in first
    assert f"{a.path} = {d.path}, and 1 more" in first
    assert f"share 1 recording, byte for byte ({a.path} = {e.path})" in second
    assert "\n" not in first


def test_files_that_are_twice_within_one_part_are_no_leak(write):
    a, b, c = write(a=b"dog", b=b"dog", c=b"cat")
    assert shared_in({"train": [a, b], "test": [c]}) == []


def test_a_recording_with_two_labels_is_a_contradiction_and_no_leak(write):
    a, b, c, d, e = write(a=b"dog", b=b"cat", c=b"dog", d=b"cat", e=b"dog")
    c, d = replace(c, label=1), replace(d, label=1)
    (found,) = with_two_labels(duplicates([a, b, c, d, e]), ["dog", "rex"])
    assert found.pairs == ((a, c), (b, d))
    assert "2 recordings have two labels, dog and rex" in found.line()
    assert f"({a.path} = {c.path}, and 1 more)" in found.line()
    assert "make the two labels one" in found.line()
    assert shared_in({"train": [a, b], "validation": [c, d]}) == []
    (shared,) = shared_in({"train": [a, b], "validation": [c, d], "test": [e]})
    assert (shared.parts, shared.pairs) == (("train", "test"), ((a, e),))


def test_a_file_that_went_away_is_named(write):
    clips = write(a=b"dog", b=b"dog")
    clips[1].path.unlink()
    with pytest.raises(DataError, match=r"b\.wav: cannot be read"):
        duplicates(clips)


def test_real_recordings_hold_no_file_twice(esc10):
    from training.data.clips import load_clips

    assert duplicates(load_clips("ESC-10", esc10).clips) == []
