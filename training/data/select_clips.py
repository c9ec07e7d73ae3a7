"""Copy the clips with chosen licences from folders in ESC-50's layout into one new folder of that layout.

python -m training.data.select_clips ESC-10 ESC-50 --licences ESC-50/LICENSE --out data/free

data/free/audio            the clips; a clip that several folders have is taken from the first
data/free/meta/esc50.csv   their rows
data/free/meta/license.txt the licence for the model card (read by training.data.clips)
data/free/ATTRIBUTION.txt  title, address, author and licence of each clip
"""

import csv
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from serving.command_line import run_command, say
from serving.errors import DataError, UsageError
from serving.files.new_folder import new_folder
from training.data.clips import COLUMNS, LICENSE, data_root, read_rows

TABLE = "meta/esc50.csv"
ATTRIBUTION = "ATTRIBUTION.txt"
DEFAULT_LICENCES = ("CC0", "CC-BY")
# A line of the LICENSE of ESC-50 and of the ATTRIBUTION.txt of ESC-10.
LICENCE_LINE = re.compile(r"- \[(\S+?)\.\w+\]:\s+clip derived from (.*) \((\S+)\) by (.*) \[(\S+)\]")


@dataclass(frozen=True)
class Options:
    """Copy the clips with chosen licences from folders in ESC-50's layout into one new folder."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """data sets in ESC-50's layout; the first that has a clip gives it"""
    licences: Path
    """licences of the clips: ESC-50's file LICENSE, ESC-10's ATTRIBUTION.txt, or a CSV file with the columns clip,
    licence, author, title, url"""
    out: Path
    """folder to write"""
    keep: tuple[str, ...] = DEFAULT_LICENCES
    """licences to keep, as the file of licences spells them"""
    source_license: str = "CC BY-NC 3.0 (ESC-50)"
    """licence of the collection that the clips come from, named in the model card"""
    overwrite: bool = False
    """replace an existing folder that this command wrote"""


@dataclass(frozen=True)
class ClipLicence:
    """Licence, author, title and address of a clip."""

    licence: str
    author: str
    title: str
    url: str


@dataclass
class _Selection:
    rows: list[dict[str, str]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def select(options: Options) -> dict[str, Any]:
    """Write the folder and return the JSON result. DataError: a table or a file cannot be read, or no clip is left."""
    licences = read_licences(options.licences)
    if unknown := set(options.keep) - {each.licence for each in licences.values()}:
        known = ", ".join(sorted({each.licence for each in licences.values()}))
        raise UsageError(f"--keep: got {', '.join(sorted(unknown))}; {options.licences} has {known}")
    chosen = _choose(options, licences)
    if not chosen.rows:
        raise DataError(f"no clip has one of the licences {', '.join(options.keep)}; give others with --keep")
    with new_folder(options.out, options.overwrite, ATTRIBUTION) as folder:
        (folder / "audio").mkdir()
        (folder / "meta").mkdir()
        for path in chosen.files:
            shutil.copyfile(path, folder / "audio" / path.name)
        with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list[str](COLUMNS))
            writer.writeheader()
            writer.writerows(chosen.rows)
        (folder / ATTRIBUTION).write_text(_attribution(chosen.rows, licences, options), encoding="utf-8")
        license = f"each recording is {' or '.join(options.keep)}; the collection is {options.source_license}"
        (folder / LICENSE).write_text(license + "\n", encoding="utf-8")
    classes = len({row["category"] for row in chosen.rows})
    left_out = dict(sorted(chosen.left_out.items()))
    say(f"{options.out}: {len(chosen.rows)} clips of {classes} classes; left out: {left_out or 'none'}")
    return {"out": str(options.out), "clips": len(chosen.rows), "classes": classes, "left_out": left_out}


def read_licences(path: Path) -> dict[str, ClipLicence]:
    """Read the licence of each clip: clip name without class and suffix ("1-100032-A") -> licence.

    errors   DataError: the file cannot be read, or has no licence
    """
    if path.suffix.lower() == ".csv":
        rows = read_rows(path, ("clip", "licence", "author", "title", "url"))
        return {row.pop("clip"): ClipLicence(**row) for row in rows}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give the file of licences") from error
    found = [match.groups() for line in lines if (match := LICENCE_LINE.match(line.strip()))]
    if not found:
        raise DataError(f"{path}: has no line with a clip's licence; give ESC-50's file LICENSE or a CSV file")
    return {clip: ClipLicence(licence, author, title, url) for clip, title, url, author, licence in found}


def _choose(options: Options, licences: dict[str, ClipLicence]) -> _Selection:
    chosen, known = _Selection(), set[str]()
    for given in options.folders:
        root = data_root("ESC-50", given)
        for number, row in enumerate(read_rows(root / TABLE, COLUMNS), start=2):
            clip = clip_name(row["filename"])
            if clip in known:
                continue
            known.add(clip)
            licence = licences[clip].licence if clip in licences else "unknown"
            if licence not in options.keep:
                chosen.left_out[licence] += 1
                continue
            if not row["target"].isdecimal():
                raise DataError(
                    f"{root / TABLE}, row {number}: target is {row['target']!r}; wanted a whole number; correct the row"
                )
            path = root / "audio" / row["filename"]
            if Path(row["filename"]).name != row["filename"] or not path.is_file():
                raise DataError(f"{root / TABLE}, row {number}: {path} is missing; fetch it again or remove the row")
            chosen.rows.append(row)
            chosen.files.append(path)
    return chosen


def clip_name(file_name: str) -> str:
    """The name of a clip of ESC-50 without its class and suffix: "1-100032-A-0.ogg" -> "1-100032-A"."""
    return Path(file_name).stem.rsplit("-", 1)[0]


def _attribution(rows: list[dict[str, str]], licences: dict[str, ClipLicence], options: Options) -> str:
    lines = [
        "Authors and licences of the recordings",
        "",
        f"These recordings come from a collection that is available under {options.source_license}.",
        f"Only recordings whose own licence is {' or '.join(options.keep)} were taken.",
        "Freesound (http://freesound.org) published them; clips of 5 seconds were cut from them.",
    ]
    category = None
    for row in sorted(rows, key=lambda row: (int(row["target"]), row["filename"])):
        if row["category"] != category:
            category = row["category"]
            lines += ["", f"{category}:"]
        of_clip = licences[clip_name(row["filename"])]
        lines.append(
            f"- [{row['filename']}]: from {of_clip.title} ({of_clip.url}) by {of_clip.author} [{of_clip.licence}]"
        )
    return "\n".join(lines) + "\n"


main = partial(run_command, Options, select, "python -m training.data.select_clips")

if __name__ == "__main__":
    raise SystemExit(main())
