"""The labelling job: embed the windows of every recording of a folder, and write down which label is heard when."""

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from rich.table import Table

from serving.bulk.embed_folder import folder_embedder, run_job, settings_of
from serving.bulk.embed_options import EmbedOptions
from serving.bulk.finished_rows import FinishedRows
from serving.bulk.job_report import Embedded, refuse_no_rows, say_missing, speed
from serving.bulk.recordings_folder import FolderEmbedder
from serving.bundle.bundle import Bundle, open_bundle
from serving.command_line import say, say_unknown_words, show
from serving.errors import UsageError
from serving.files.atomic_write import write_atomically
from serving.files.new_folder import make_folder_of
from serving.labelling.detections import LEAST_PROBABILITY, LabelRules
from serving.labelling.embedded_recordings import read_recordings
from serving.labelling.kept_embeddings import KeptEmbeddings, take_embeddings, take_unchanged
from serving.labelling.label_options import LabelOptions, check_label_options
from serving.labelling.label_source import choose_labels, read_label_source
from serving.labelling.table_files import SUFFIXES, write_one_table, write_tables
from serving.labelling.table_formats import SEQUENCED, LabelledRecording, open_table
from serving.zeroshot import ZeroShot


def label_folder(options: LabelOptions) -> dict[str, Any]:
    """Label every recording of the folder, and return the result that is printed as JSON."""
    started = time.perf_counter()
    check_label_options(options)
    may_replace = options.may_replace
    bundle = open_bundle(options.bundle, options.trust)
    source = folder_embedder(options.windows, bundle)
    asked = read_label_source(options.labels, source.embedder.zeroshot.class_names)
    labels = choose_labels(source.embedder, asked)
    unknown_words = source.embedder.labels.unknown_words(
        [asked.descriptions.get(label, label) for label in labels.class_names]
    )
    say_unknown_words(unknown_words)
    rules = rules_of(options, labels)
    make_folder_of(options.out, "--out")
    done = _embed(options.windows, bundle, source)
    table = CountedTable(options, bundle, labels, rules, may_replace)
    try:
        if isinstance(done, Embedded) and not done.rows:
            _move_errors(options)
            refuse_no_rows(done, options.folder, options.errors)
        table.write()
        _move_errors(options)
        if options.embeddings is None:
            options.windows.out.unlink()
    except OSError as error:
        raise UsageError(
            f"{options.out}: cannot be written ({error.strerror or error}); the embeddings are kept: correct this and "
            "give the same command again"
        ) from error
    result = {
        "out": str(options.out),
        "format": options.form,
        "rows": table.n_rows,
        "recordings": table.n_recordings,
        "labelled": table.n_labelled,
        "corrected_kept": table.n_corrected,
        "labels": len(labels.class_names),
        "unknown_words": unknown_words,
        "threshold": rules.threshold,
        "probability": rules.probability,
        "errors_file": str(options.errors),
        **_of_job(done),
        **speed(done.worked if isinstance(done, Embedded) else None, time.perf_counter() - started),
        "embedding_space": bundle.manifest.embedding_space,
    }
    _show_result(result)
    if table.n_corrected:
        say(
            f"warning: tables in {options.out} that were changed since they were written are kept as they are: "
            f"{table.n_corrected}; --overwrite replaces them"
        )
    if result["errors"] and options.form in SEQUENCED and not options.per_recording:
        say(
            f"the times of {options.out} count over the other recordings, one after the other: leave the files that "
            "could not be used out of the sequence"
        )
    if isinstance(done, Embedded):  # of taken embeddings it was said before
        say_missing(done.missing, result["errors_file"])
    return result


def _move_errors(options: LabelOptions) -> None:
    """Put the list of errors of the embedding job beside the table. It stays beside a file of --embeddings too."""
    if options.windows.errors.exists():
        content = options.windows.errors.read_bytes()
        write_atomically(options.errors, lambda path: path.write_bytes(content))
    if options.embeddings is None:
        options.windows.errors.unlink(missing_ok=True)


def rules_of(options: LabelOptions, labels: ZeroShot) -> LabelRules:
    """When a window gets a label: what the flags say, or the bundle's own threshold; -1 is none."""
    threshold = labels.threshold if options.threshold is None else options.threshold
    if threshold == -1:
        threshold = None
    probability = options.probability
    if probability is None:
        probability = LEAST_PROBABILITY if threshold is None else 0.0
    return LabelRules(threshold, probability, options.top, options.offset, options.merge)


def _embed(options: EmbedOptions, bundle: Bundle, source: FolderEmbedder) -> Embedded | KeptEmbeddings:
    """Make the file of embeddings, or take the one of an earlier run with the same settings."""
    if options.out.exists() and not (options.update or options.parts.exists()):
        settings = settings_of(options, bundle)
        if not options.overwrite:
            return take_embeddings(options, FinishedRows(options.out, settings, options.begin_anew))
        # The hidden file of a run that could not write its table: --overwrite may have been in its command too.
        with suppress(UsageError):  # it is of other settings
            if kept := take_unchanged(options, FinishedRows(options.out, settings, options.begin_anew)):
                return kept
    return run_job(options, bundle, source)


def _of_job(done: Embedded | KeptEmbeddings) -> dict[str, int | None]:
    """Numbers of recordings for the result; None: not counted in this run."""
    is_taken = isinstance(done, KeptEmbeddings)
    return {
        "errors": done.errors,
        "warnings": done.warnings,
        "kept": done.kept,
        "missing": done.missing,
        "not_embedded": done.not_embedded if is_taken else None,
        "changed": done.changed if is_taken else None,
        "files_done_before": None if is_taken else done.done_before,
    }


class CountedTable:
    """Writes the table, or the tables, and counts what is in them."""

    def __init__(self, options: LabelOptions, bundle: Bundle, labels: ZeroShot, rules: LabelRules, may_replace: bool):
        self.n_rows = self.n_recordings = self.n_labelled = self.n_corrected = 0
        self._options, self._labels, self._rules, self._may_replace = options, labels, rules, may_replace
        front_end = bundle.manifest.front_end
        self._range = {"low_hz": front_end["low_hz"], "high_hz": front_end["high_hz"]}
        self._space = bundle.manifest.embedding_space

    def write(self) -> None:
        """Read the embeddings, and write all tables, whole or not at all."""
        options = self._options
        open_one = partial(open_table, options.form, several=not options.per_recording, **self._range)
        if not options.per_recording:
            write_one_table(options.out, self._recordings(), open_one)
            return
        settings = {
            "embedding_space": self._space,
            "labels": self._labels.class_names,
            "threshold": self._rules.threshold,
            "probability": self._rules.probability,
            "top": self._rules.top,
        }
        self.n_corrected = write_tables(
            *(options.out, settings, self._recordings(), open_one, SUFFIXES[options.form]),
            self._may_replace,
            keep=not options.overwrite,
        )

    def _recordings(self) -> Iterator[LabelledRecording]:
        windows = self._options.windows
        for recording in read_recordings(windows.out, windows.folder.resolve(), self._labels, self._rules):
            self.n_recordings += 1
            self.n_labelled += bool(recording.detections)
            self.n_rows += len(recording.detections)
            yield recording


def _show_result(result: dict[str, Any]) -> None:
    table = Table(show_header=False)
    for name in ("rows", "recordings", "labelled", "errors", "warnings", "missing", "seconds", "recorded_hours_per_s"):
        table.add_row(name.replace("_", " "), "-" if result[name] is None else str(result[name]))
    show(table, result["out"])
    if result["errors"]:
        say(f"files that could not be used: {result['errors']}; {result['errors_file']} gives the reasons")
    if result["warnings"]:
        say(f"files with a warning, most because a part is missing: {result['warnings']}; see {result['errors_file']}")
