"""Which labels sounds are given: the bundle's classes, a known list, typed ones, or those of a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serving.embedder import Embedder
from serving.errors import UsageError
from serving.files.csv_rows import header_of, lines_of, read_rows
from serving.zeroshot import ZeroShot
from serving.zeroshot.label_lists import LABEL_LISTS, list_in_words
from serving.zeroshot.label_text import check_label_length, check_printable, join_labels, normalise_label, split_labels

MOST_BYTES = 2**20  # of a file of labels
TABLES = (".csv", ".tsv")
FILES = (".txt", *TABLES)
COMMENT = "#"  # a line that begins so
_COLUMNS = {"label", "description"}


@dataclass(frozen=True)
class LabelSource:
    """Labels, and what some of them sound like.

    labels        None: all classes of the bundle
    descriptions  label -> its description, by which the sound is found instead of the label
    """

    labels: Sequence[str] | None = None
    descriptions: Mapping[str, str] = field(default_factory=dict)


def read_label_source(text: str | None, class_names: Sequence[str]) -> LabelSource:
    """What `--labels` asks for.

    text         None: the bundle's classes; esc-50 or fsc22 in any case; @FILE, or the path of a .txt, .csv or .tsv
                 file; otherwise labels with commas between, see `split_labels`
    class_names  of the bundle, which may have commas in them
    errors       UsageError, DataError: the file cannot be read, or has other columns; LabelError: a quote is not
                 closed, or a label is too long or not printable
    """
    if text is None:
        return LabelSource()
    for name, classes in LABEL_LISTS.items():
        if _plain(text) == _plain(name):
            return LabelSource(list_in_words(classes))
    if (file := label_file_of(text)) is not None:
        return read_label_file(file)
    return _checked(LabelSource(split_labels(text, class_names, flag="--labels")))


def label_file_of(text: str | None) -> Path | None:
    """The file that a text for `--labels` names; None: it names none."""
    if text is not None and text.startswith("@"):
        return Path(text[1:])
    return Path(text) if text is not None and Path(text).suffix.lower() in FILES else None


def read_label_file(path: Path, flag: str = "--labels") -> LabelSource:
    """Labels of a file, and descriptions of some: see `_read_file`. flag: the option that names the file, for messages.

    errors   as `read_label_source`
    """
    return _checked(_read_file(path, flag))


def _checked(source: LabelSource) -> LabelSource:
    for text in (*(source.labels or ()), *source.descriptions.values()):
        check_label_length(text)
        check_printable(text)
    return source


def choose_labels(embedder: Embedder, source: LabelSource) -> ZeroShot:
    """The zero-shot map for these labels; its class names are the labels, also where a description stands for one.

    errors   LabelError, as `LabelSpace.choose`, or descriptions for a bundle without a text model
    """
    return embedder.choose(source.labels, source.descriptions)


def _plain(name: str) -> str:
    return normalise_label(name).replace("-", "").replace(" ", "")


def _read_file(path: Path, flag: str) -> LabelSource:
    """Labels of a file in UTF-8, without its comments.

    A table is .csv, .tsv, or any file whose first line has the columns label and description; others have one label a
    line.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{flag}: {path}: is larger than 1 MB; give a file with one label a line")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a zero byte in the path
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UsageError(
            f"{flag}: {path}: cannot be read ({reason}); give a text file with one label a line, or a CSV file with "
            "the columns label and description"
        ) from error
    lines = lines_of(text)
    table = "\n".join(_without_comments(lines))
    if path.suffix.lower() in TABLES or {normalise_label(cell) for cell in header_of(table)} >= _COLUMNS:
        source = _read_table(table, f"{flag}: {path}")
    else:
        labels = [line.strip() for line in lines if line.strip() and not line.startswith(COMMENT)]
        has_header = bool(labels) and normalise_label(labels[0]) == "label"
        source = LabelSource(labels[has_header:])
    if not source.labels:
        raise UsageError(f"{flag}: {path}: it holds no label; give one label a line")
    return source


def _without_comments(lines: Sequence[str]) -> list[str]:
    """The lines of a table; comments are empty, so that rows keep their numbers. A line of a quoted cell is none."""
    kept, is_quoted = [], False
    for line in lines:
        is_comment = line.startswith(COMMENT) and not is_quoted
        kept.append("" if is_comment else line)
        is_quoted ^= not is_comment and line.count('"') % 2 == 1
    return kept


def _read_table(text: str, name: str) -> LabelSource:
    """Rows of one column of labels, or of columns with the names label and description. name: for messages."""
    rows = read_rows(text, name)
    header = [normalise_label(cell) for cell in rows[0][1]] if rows else []
    if len(header) > 1 and not set(header) >= _COLUMNS:
        raise UsageError(
            f"{name}: got the columns {join_labels(rows[0][1])}; wanted a first line with the names label and "
            "description, or one label a line, in double quotes if it contains a comma"
        )
    if "label" not in header:
        return LabelSource([row[0] for _, row in rows])
    place, at = header.index("label"), header.index("description") if len(header) > 1 else len(header)
    labels, descriptions = [], {}
    for number, row in rows[1:]:
        label, text = (row[column] if column < len(row) else "" for column in (place, at))
        if not label:
            raise UsageError(f"{name}, row {number}: has no label; give one, or remove the row")
        labels.append(label)
        if text:
            descriptions[label] = text
    return LabelSource(labels, descriptions)
