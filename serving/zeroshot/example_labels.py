"""The labels that fit each recording of a folder of examples."""

import json
from pathlib import Path

from serving.errors import UsageError, one_line

LABELS_FILE = "labels.json"  # in the folder: file name without its suffix -> labels
WANTED = 'wanted a JSON object of lists of texts: {"bark": ["dog", "cat"]}'


def read_example_labels(folder: Path) -> dict[str, tuple[str, ...]]:
    """The content of the folder's LABELS_FILE; {} if there is none. UsageError: it is something else."""
    path = folder / LABELS_FILE
    if not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--examples: {path}: cannot be read ({error.strerror}); correct its permissions") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--examples: {path}: is no JSON ({one_line(error, 200)}); {WANTED}") from error
    lists = list(stored.values()) if isinstance(stored, dict) else [None]
    if not all(isinstance(labels, list) and all(isinstance(label, str) for label in labels) for labels in lists):
        raise UsageError(f"--examples: {path}: {WANTED}")
    return {stem: tuple(labels) for stem, labels in stored.items()}
