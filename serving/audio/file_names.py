"""Which files of a folder are recordings, judged by their names."""

import os
from collections.abc import Iterator
from pathlib import Path

from serving.errors import AudioError

FORMATS = "WAV, FLAC, OGG, Opus, MP3, AIFF or CAF"  # the formats that messages recommend
# Suffixes in lower case. Files with MORE_SUFFIXES need the extra `formats`; without it they are listed as errors.
SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aiff", ".aif", ".aifc", ".w64", ".rf64", ".au", ".snd", ".caf"),
)
MORE_SUFFIXES = (
    *(".m4a", ".m4b", ".aac", ".mp4", ".webm", ".wma", ".mka", ".mkv", ".mov", ".3gp", ".3g2", ".amr", ".ac3"),
    *(".mp2", ".wv", ".ape"),
)


# Folders that systems make on a card or a disk, and macOS in ZIP files.
SYSTEM_FOLDERS = ("System Volume Information", "$RECYCLE.BIN", "RECYCLER", "LOST.DIR", "lost+found", "__MACOSX")


def is_hidden(name: str) -> bool:
    """Whether file managers hide it: `.Trash`, macOS's `._a.wav` beside a.wav, and the folders of the system."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def has_sound_suffix(name: str) -> bool:
    """Whether the name ends like that of a recording."""
    return Path(name).suffix.lower() in (*SUFFIXES, *MORE_SUFFIXES)


def walk_recordings(
    folder: Path, deep: bool = True, prefix: str = "", skipped: list[str] | None = None
) -> Iterator[str]:
    """Yield the names of the recordings in a folder, relative to it and with slashes, in the order of the names.

    deep     search folders inside the folder too, at any depth; links to folders are not followed
    skipped  gets the names of hidden folders, and of hidden files that would be recordings
    A folder that cannot be listed is yielded as a name that ends with a slash. Hidden files are left out.
    """
    try:
        with os.scandir(folder / prefix) as entries:
            # The slash sorts a folder to where the names of its files belong.
            names = sorted(name for entry in entries if (name := _name(entry, deep)))
    except OSError:
        yield prefix
        return
    for name in names:
        if is_hidden(name.rstrip("/")):
            if skipped is not None:
                skipped.append(prefix + name)
        elif name.endswith("/"):
            yield from walk_recordings(folder, deep, prefix + name, skipped)
        else:
            yield prefix + name


def _name(entry: os.DirEntry[str], deep: bool) -> str:
    """The name of an entry; with a slash if it is a folder to search; "" if it is neither that nor a recording."""
    if entry.is_dir(follow_symlinks=False):
        return f"{entry.name}/" if deep else ""
    return entry.name if has_sound_suffix(entry.name) else ""


def sound_files(folder: Path, deep: bool = True) -> list[Path]:
    """The paths of a folder's recordings, as `walk_recordings` finds them.

    errors   AudioError: the folder, or a folder inside it, cannot be listed
    """
    names = list(walk_recordings(folder, deep))
    for name in names:
        if not name or name.endswith("/"):
            raise AudioError(f"{folder / name.rstrip('/')}: its files cannot be listed; mend its permissions")
    return [path for name in names if (path := folder / name).is_file()]
