"""Read a data set's folder into a table of clips.

ESC-50     DIR/audio, DIR/meta/esc50.csv                                        (Piczak 2015)
ESC-10     the same layout; only the ten classes that esc50.csv flags
FSC22      the layouts of its GitHub archive and of Kaggle                      (Bandara 2023)
synthetic  ESC-50's layout, written by training.synthesis.bank
folder     DIR/<class>/<recording>.wav, or DIR/<class>/<recording>/<cut>.wav      (any audio files)

Except for `folder`, the layout may also be in a folder inside DIR, such as ESC-50-master from ESC-50's archive. The
table's classes are those that have clips, so a part of ESC-50 or FSC22 is a data set with fewer classes. A file
meta/license.txt beside meta/esc50.csv names the licence of the recordings, if it is not the data set's.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from serving.audio.file_names import is_hidden, sound_files
from serving.errors import DataError
from serving.zeroshot.label_text import normalise_label
from training.data.known_classes import CLASS_NAMES

LICENSE = "meta/license.txt"
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file")  # of meta/esc50.csv


@dataclass(frozen=True)
class LabelledClip:
    """One audio file of a data set.

    label   index into the table's classes
    source  the original recording that the clip was cut from; a split must not separate clips of one source
    fold    the data set's own recording fold; None if it has no folds
    """

    path: Path
    label: int
    source: str
    fold: int | None


@dataclass(frozen=True)
class ClipTable:
    """The clips of a data set and their classes.

    license  of the data set, for the model card
    numbers  the data set's own number of each class, ascending: ESC-50's targets (also for ESC-10 and synthetic) or
             FSC22's class ids; () for a folder
    root     the folder with the data set's layout, see `data_root`
    """

    dataset: str
    classes: tuple[str, ...]
    clips: tuple[LabelledClip, ...]
    license: str
    numbers: tuple[int, ...] = ()
    root: Path = Path()

    @property
    def folds(self) -> list[int]:
        """The recording folds that occur, ascending."""
        return self.folds_of(self.classes)

    def folds_of(self, names: Collection[str]) -> list[int]:
        """The recording folds that have clips of these classes, ascending."""
        chosen = {label for label, name in enumerate(self.classes) if name in names}
        return sorted({clip.fold for clip in self.clips if clip.fold is not None and clip.label in chosen})


def load_clips(dataset: str, data_dir: Path) -> ClipTable:
    """Read a data set's table and check that every file exists.

    errors   DataError: names the folder, the file or the CSV row at fault
    """
    if dataset not in DATASETS:
        raise DataError(f"dataset: got {dataset}; wanted one of {', '.join(DATASETS)}")
    if not data_dir.is_dir():
        raise DataError(f"{data_dir}: no such folder; give the folder of {dataset} with --data-dir")
    try:
        table = replace(DATASETS[dataset](data_dir), root=data_root(dataset, data_dir))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); correct its permissions") from error
    if not table.clips:
        raise DataError(f"{data_dir}: holds no clips of {dataset}; give the folder that has its recordings")
    if len({clip.label for clip in table.clips}) < 2:
        only = table.classes[table.clips[0].label]
        raise DataError(f"{data_dir}: holds only the class {only}; training needs two or more")
    same: dict[str, str] = {}
    for name in table.classes:
        if not normalise_label(name):
            raise DataError(
                f"{data_dir}: the class {name!r} has nothing but spaces and underscores in its name; rename it"
            )
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{data_dir}: the name of the class folder {name!r} is not UTF-8; rename it") from error
        twin = same.setdefault(normalise_label(name), name)
        if twin != name:
            raise DataError(
                f"{data_dir}: the classes {twin!r} and {name!r} are one label, because case, spaces, underscores and "
                "the form of accents are ignored; rename one, or put their files together"
            )
    for what, names in (("class", table.classes), ("file", [str(clip.path) for clip in table.clips])):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise DataError(f"{data_dir}: the {what} {twice[0]} is listed more than once; keep one of them")
    return table


def data_root(dataset: str, data_dir: Path) -> Path:
    """The folder with a data set's layout: data_dir or a folder in it; data_dir if neither has the layout.

    errors   DataError: several folders in data_dir have the layout
    """
    if dataset not in LAYOUTS or not data_dir.is_dir() or LAYOUTS[dataset](data_dir):
        return data_dir
    inner = [folder for folder in sorted(data_dir.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    found = [folder for folder in inner if LAYOUTS[dataset](folder)]
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise DataError(
            f"{data_dir}: holds {dataset} in {len(found)} folders ({names}); give one of them as --data-dir"
        )
    return found[0] if found else data_dir


def read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """These columns of a CSV file, without leading and trailing spaces. DataError: a column or a value is missing."""
    if not path.is_file():
        raise DataError(f"{path}: is missing; give the data set's own folder with --data-dir")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
            if missing:
                got = ", ".join(reader.fieldnames or ["nothing"])
                raise DataError(f"{path}: has no column {', '.join(missing)} (got {got}); wanted {', '.join(columns)}")
            rows = [{name: (row[name] or "").strip() for name in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV file in UTF-8 ({error}); fetch it again") from error
    for number, row in enumerate(rows, start=2):
        empty = [name for name in columns if not row[name]]
        if empty:
            raise DataError(f"{path}, row {number}: no value for {', '.join(empty)}; correct or remove the row")
    return rows


def _number(path: Path, row: int, column: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise DataError(f"{path}, row {row}: {column} is {text!r}; wanted a whole number") from error


def _present(folder: Path, name: str, table: Path, row: int) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{table}, row {row}: {name} is outside {folder}; name a file in it")
    audio = folder / name
    if not audio.is_file():
        raise DataError(f"{table}, row {row}: {audio} is missing; fetch it again or remove the row")
    return audio


def _esc(data_dir: Path, dataset: str, license: str, only_esc10: bool) -> ClipTable:
    root = data_root(dataset, data_dir)
    path = root / "meta" / "esc50.csv"
    rows = read_rows(path, COLUMNS)
    names: dict[int, str] = {}
    found: list[tuple[int, Path, int, str]] = []
    for number, row in enumerate(rows, start=2):
        if only_esc10 and row["esc10"].lower() != "true":
            continue
        target = _number(path, number, "target", row["target"])
        name = names.setdefault(target, row["category"])
        if name != row["category"]:
            raise DataError(f"{path}, row {number}: target {target} is {row['category']}, but {name} in an earlier row")
        audio = _present(root / "audio", row["filename"], path, number)
        found.append((target, audio, _number(path, number, "fold", row["fold"]), row["src_file"]))
    order = sorted(names)
    labels = {target: label for label, target in enumerate(order)}
    clips = tuple(LabelledClip(audio, labels[target], source, fold) for target, audio, fold, source in found)
    own_license = root / LICENSE
    if own_license.is_file():
        license = own_license.read_text(encoding="utf-8", errors="replace").strip() or license
    return ClipTable(dataset, tuple(names[target] for target in order), clips, license, tuple(order))


FSC22_AUDIO = ("Audios", "Audio Wise V1.0-20220916T202003Z-001/Audio Wise V1.0", "Audio Wise V1.0")
FSC22_META = "Metadata V1.0 FSC22.csv"


def _fsc22(data_dir: Path) -> ClipTable:
    root = data_root("FSC22", data_dir)
    audio = next((root / name for name in FSC22_AUDIO if (root / name).is_dir()), None)
    if audio is None:
        raise DataError(f"{data_dir}: has none of the folders {', '.join(FSC22_AUDIO)}; give FSC22's own folder")
    # Kaggle has separate archives for the recordings and the table; they unpack into sibling folders.
    tables = sorted(root.rglob(FSC22_META)) or sorted(data_dir.rglob(FSC22_META))
    if len(tables) > 1:
        raise DataError(f"{data_dir}: holds {FSC22_META} {len(tables)} times ({tables[0]}, {tables[1]}); keep one")
    path = tables[0] if tables else root / FSC22_META
    columns = ("Source File Name", "Dataset File Name", "Class ID", "Class Name")
    names = CLASS_NAMES["FSC22"]
    found: list[tuple[int, Path, str]] = []
    for number, row in enumerate(read_rows(path, columns), start=2):
        class_id = _number(path, number, "Class ID", row["Class ID"])
        if class_id not in names:
            raise DataError(f"{path}, row {number}: Class ID is {class_id}; wanted 1 to {len(names)}")
        file = _present(audio, row["Dataset File Name"], path, number)
        found.append((class_id, file, freesound_source(row["Source File Name"])))
    order = sorted({class_id for class_id, _, _ in found})
    clips = tuple(LabelledClip(file, order.index(class_id), source, None) for class_id, file, source in found)
    license = "CC0 1.0, some recordings CC BY (FSC22)"
    return ClipTable("FSC22", tuple(names[class_id] for class_id in order), clips, license, tuple(order))


def freesound_source(name: str) -> str:
    """The original recording of a source file name of FSC22.

    It is the name's leading digits; if there are none, the name without its suffix and its number in brackets.

    "17548__A.wav", "17548_B.wav" -> "17548"; "renam (1).wav" -> "renam"
    """
    digits = re.match(r"\d+", name.strip())
    if digits:
        return digits.group()
    return re.sub(r"[\s_]*\(\d+\)$", "", re.sub(r"(\.wav)+$", "", name.strip(), flags=re.IGNORECASE)).strip()


def _folder(data_dir: Path) -> ClipTable:
    classes = sorted(entry.name for entry in data_dir.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    clips = [
        LabelledClip(path, label, _recording_of(path.relative_to(data_dir)), None)
        for label, name in enumerate(classes)
        for path in sound_files(data_dir / name)
    ]
    empty = set(range(len(classes))) - {clip.label for clip in clips}
    if empty and clips:
        name = classes[min(empty)]
        raise DataError(f"{data_dir / name}: holds no audio file; add some or remove the folder")
    return ClipTable("folder", tuple(classes), tuple(clips), "that of the recordings")


def _recording_of(path: Path) -> str:
    """The original recording of a file of a `folder`: its class folder's subfolder, at any depth below; else itself.

    "dog/rec1/a.wav", "dog/rec1/day 2/b.wav" -> "dog/rec1"; "dog/c.wav" -> "dog/c"
    """
    return "/".join(path.parts[:2]) if len(path.parts) > 2 else path.with_suffix("").as_posix()


def _has_esc50_table(folder: Path) -> bool:
    return (folder / "meta" / "esc50.csv").is_file()


def _has_fsc22_recordings(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in FSC22_AUDIO)


LAYOUTS: dict[str, Callable[[Path], bool]] = {
    "ESC-50": _has_esc50_table,
    "ESC-10": _has_esc50_table,
    "synthetic": _has_esc50_table,
    "FSC22": _has_fsc22_recordings,
}
DATASETS: dict[str, Callable[[Path], ClipTable]] = {
    "ESC-50": lambda folder: _esc(folder, "ESC-50", "CC BY-NC 3.0 (ESC-50)", only_esc10=False),
    "ESC-10": lambda folder: _esc(folder, "ESC-10", "CC BY 3.0 (ESC-10)", only_esc10=True),
    "FSC22": _fsc22,
    "synthetic": lambda folder: _esc(folder, "synthetic", "Apache-2.0 (synthesised)", only_esc10=False),
    "folder": _folder,
}
