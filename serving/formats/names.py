"""Which files of a folder are recordings, by their names."""

import os
from collections.abc import Iterator
from pathlib import Path

from serving.errors import AudioError

FORMATS = "WAV, FLAC, OGG or MP3"  # those that everybody can make
# Of files that are read, in lower case; the others only with the extra `formats`, and else listed as errors.
SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aiff", ".aif", ".aifc", ".w64", ".rf64", ".au", ".snd", ".caf"),
)
MORE_SUFFIXES = (
    *(".m4a", ".m4b", ".aac", ".mp4", ".webm", ".wma", ".mka", ".mkv", ".mov", ".3gp", ".3g2", ".amr", ".ac3"),
    *(".mp2", ".wv", ".ape"),
)


def is_hidden(name: str) -> bool:
    """Whether people never see it: `.Trash`, macOS's `._a.wav` beside a.wav, and the folder where ZIPs keep those."""
    return name.startswith(".") or name == "__MACOSX"


def is_recording(name: str) -> bool:
    """Whether a file is a recording, by its name."""
    return not is_hidden(name) and Path(name).suffix.lower() in (*SUFFIXES, *MORE_SUFFIXES)


def walk_recordings(folder: Path, deep: bool = True, prefix: str = "") -> Iterator[str]:
    """Names of the recordings in a folder, relative to it and with slashes, in the order of the names.

    deep   those in the folders in it too, at any depth; links to folders are not followed
    A folder that cannot be listed is named too, with a slash at its end. What is hidden is left out.
    """
    try:
        with os.scandir(folder / prefix) as entries:
            # With its slash, a folder stands where its files' names belong.
            names = sorted(name for entry in entries if (name := _name(entry, deep)))
    except OSError:
        yield prefix
        return
    for name in names:
        if name.endswith("/"):
            yield from walk_recordings(folder, deep, prefix + name)
        else:
            yield prefix + name


def _name(entry: os.DirEntry[str], deep: bool) -> str:
    """An entry's name, with a slash where it is a folder; "" where it is no matter."""
    if entry.is_dir(follow_symlinks=False):
        return f"{entry.name}/" if deep and not is_hidden(entry.name) else ""
    return entry.name if is_recording(entry.name) else ""


def sound_files(folder: Path, deep: bool = True) -> list[Path]:
    """Paths of a folder's recordings, as `walk_recordings` finds them.

    errors   AudioError: it, or a folder in it, cannot be listed
    """
    names = list(walk_recordings(folder, deep))
    for name in names:
        if not name or name.endswith("/"):
            raise AudioError(f"{folder / name.rstrip('/')}: its files cannot be listed; mend its permissions")
    return [path for name in names if (path := folder / name).is_file()]
