"""Teach a bundle your own sounds, by examples, descriptions or both, in seconds and without PyTorch.

    python -m serving.teach bundles/first examples/ --out bundles/mine
    python -m serving.teach bundles/first examples.csv --descriptions classes.csv --out bundles/mine

`examples/` has a folder of recordings for each class; `examples.csv` has the columns file, start, end and label. Tables
of Raven and Audacity are read too. The result is a bundle like any other; the source stays as it is. The work is in
serving.teaching.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from serving.bundle.bundle_files import MANIFEST
from serving.command_line import run_command, say, say_unknown_words, show
from serving.embedder import Embedder
from serving.errors import UsageError
from serving.files.new_folder import refuse_existing, refuse_unwritable
from serving.labelling.label_source import read_label_file
from serving.teaching.embedded_examples import report_skipped
from serving.teaching.example_sources import read_examples
from serving.teaching.lesson import Descriptions, Lesson, teach
from serving.teaching.taught_bundle import SCORE_NAMES, result_of, write_taught_bundle
from serving.trust_option import Trusted
from serving.zeroshot.label_text import normalise_label


@dataclass(frozen=True)
class TeachOptions:
    """Teach a bundle classes by examples and descriptions, and write the result as a new bundle."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle's folder"""
    out: Path
    """folder of the new bundle"""
    examples: Annotated[Path | None, tyro.conf.Positional] = None
    """a folder with a folder of recordings for each class; or a table of stretches of recordings, or a folder of such
    tables: CSV or Parquet with the columns file, start, end and label (seconds, both empty for the whole file),
    selection tables of Raven or BirdNET, Audacity's label tracks (docs/teach.md). Default: descriptions alone"""
    recordings: Path | None = None
    """the folder of the recordings that the tables name, if that is not their own: for a table that `serving.label`
    wrote, the folder that was labelled"""
    descriptions: Path | None = None
    """what classes sound like: one label a line, or CSV columns label and description, as for `serving.label`; needs
    the bundle's text model"""
    backend: str = "auto"
    """auto, onnxruntime, openvino or tensorrt"""
    precision: str = "fp32"
    """of the model: fp32, fp16 or int8, if the bundle has it"""
    threads: int | None = None
    """CPU threads for decoding, and as many for the model; default: the physical cores"""
    trust: Trusted = ()
    overwrite: bool = False
    """replace an existing bundle"""


def teach_bundle(options: TeachOptions) -> dict[str, Any]:
    """Teach, write the bundle, and return the result that is printed as JSON."""
    started = time.perf_counter()
    if options.examples is None and options.descriptions is None:
        raise UsageError("give examples, --descriptions, or both")
    refuse_existing(options.out, options.overwrite, MANIFEST)
    refuse_unwritable(options.out.parent, "--out")
    examples = read_examples(options.examples, options.recordings) if options.examples is not None else []
    descriptions = Descriptions()
    if options.descriptions is not None:
        source = read_label_file(options.descriptions, "--descriptions")
        descriptions = Descriptions(source.labels or (), source.descriptions)
    embedder = Embedder.load(options.bundle, options.backend, options.precision, options.threads, trusted=options.trust)
    lesson = teach(embedder, examples, descriptions, quiet=False)
    write_taught_bundle(embedder.bundle, lesson, options.out, options.overwrite)
    report_skipped(lesson.skipped)
    unknown_words = embedder.labels.unknown_words(
        [descriptions.texts.get(label, label) for label in descriptions.labels]
    )
    say_unknown_words(unknown_words)
    for doubt in lesson.doubts:
        say(f"warning: {doubt}")
    _show(options.out, lesson)
    return {
        "out": str(options.out),
        "classes": len(lesson.zeroshot.class_names),
        "taught": result_of(lesson.classes),
        "prior_weight": lesson.zeroshot.prior_weight,
        **{name: lesson.scores.get(name) for name in SCORE_NAMES},
        "skipped": len(lesson.skipped),
        "doubts": list(lesson.doubts),
        "unknown_words": unknown_words,
        "seconds": round(time.perf_counter() - started, 3),
        "embedding_space": embedder.manifest.embedding_space,
    }


def _show(out: Path, lesson: Lesson) -> None:
    table = Table("class", "description")
    for name in ("examples", "recordings", "right when held out"):
        table.add_column(name, justify="right")
    table.add_column("rival")
    has_text = dict(zip(map(normalise_label, lesson.zeroshot.class_names), lesson.zeroshot.has_text, strict=True))
    for name, each in lesson.classes.items():
        text = "given" if each.description else "the bundle's" if has_text[normalise_label(name)] else "none"
        unknown = "one recording: not known" if each.recordings == 1 else "not known"
        accuracy = f"{each.right} of {each.held_out}" if each.held_out else unknown
        right = accuracy if each.keys else ""
        rival = f"{each.rival.name}: {each.rival.taken}" if each.rival else ""
        table.add_row(name, text, str(len(each.keys)), str(each.recordings), right, rival)
    show(table, str(out))
    single = [name for name, each in lesson.classes.items() if each.recordings == 1]
    if single:
        say(f"not cross-validated, because the examples are of one recording: {', '.join(single)}")
    for name, value in lesson.scores.items():
        say(f"held-out examples, {SCORE_NAMES[name]}: {value:.1%}")
    say(f"next: python -m serving.label {out} RECORDINGS --out table.csv")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    return run_command(TeachOptions, teach_bundle, "python -m serving.teach", argv)


if __name__ == "__main__":
    raise SystemExit(main())
