"""The flags of `python -m serving.label`, and what is checked before the work begins."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from serving.audio.file_names import walk_recordings
from serving.bulk.embed_options import EmbedOptions, check_options, parts_of
from serving.bulk.resumable_job import begun_for
from serving.errors import UsageError
from serving.files.new_folder import refuse_existing, refuse_unwritable
from serving.labelling.label_source import label_file_of
from serving.labelling.table_files import MARK
from serving.trust_option import Trusted
from serving.zeroshot import LARGEST_OFFSET

SUFFIX_FORMATS = {".csv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True)
class LabelOptions:
    """Name the sounds of every recording in a folder: which label is heard from when to when."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle's folder"""
    folder: Annotated[Path, tyro.conf.Positional]
    """folder of the recordings, searched at any depth, as for `python -m serving.embed`"""
    out: Path
    """the table to write; with --per-recording the folder of the tables"""
    labels: str | None = None
    """esc-50, fsc22, labels with commas between, or @FILE (also a path that ends with .txt, .csv or .tsv): one label a
    line, or CSV columns label and description; default: the bundle's classes"""
    format: Literal["csv", "parquet", "raven", "audacity"] | None = None
    """of the table: raven is a selection table, audacity a label track; default: csv or parquet by the name of --out"""
    per_recording: bool = False
    """write a table for each recording, into the folder --out"""
    threshold: float | None = None
    """least similarity (cosine, -1 to 1) of a sound and its label; default: the bundle's own; -1: none"""
    probability: float | None = None
    """least probability of a label, 0 to 1, among all labels; default: 0 with a threshold, 0.7 without one"""
    top: int = 1
    """most labels of a window"""
    offset: float | None = None
    """subtracted from the scores of classes that were in the training; default: the bundle's own"""
    merge: bool = True
    """windows of one label that touch or overlap are one row; with --no-merge each window is a row"""
    hop_seconds: float | None = None
    """seconds from the start of a window to the next, at most a window; default: no overlap, as trained"""
    embeddings: Path | None = None
    """keep the embeddings of all windows in this Parquet file, or take them from it: other labels then take seconds"""
    update: bool = False
    """with --embeddings: embed only recordings that are new or changed, and replace the table; with --per-recording,
    tables that you changed and other files in the folder are kept"""
    backend: str = "auto"
    """auto, onnxruntime, openvino or tensorrt"""
    precision: str = "fp32"
    """of the model: fp32, fp16 or int8, if the bundle has it; bf16: fp32 with OpenVINO in bfloat16"""
    threads: Annotated[int | None, tyro.conf.arg(aliases=["--workers"])] = None
    """CPU threads for decoding, and as many for the model; with --ray local: workers; default: the physical cores"""
    processes: int | None = None
    """worker processes; 1: threads only; default: as for serving.embed"""
    ray: str | None = None
    """run on Ray: local, or HOST:PORT of a cluster that includes this machine and sees the same folders"""
    trust: Trusted = ()
    overwrite: bool = False
    """replace the output, and discard an unfinished job"""

    @property
    def form(self) -> str:
        """The table's format."""
        return self.format or SUFFIX_FORMATS.get(self.out.suffix.lower(), "csv")

    @property
    def errors(self) -> Path:
        """The CSV file for recordings that could not be used."""
        return self.out.with_name(f"{self.out.name if self.per_recording else self.out.stem}.errors.csv")

    @property
    def windows(self) -> EmbedOptions:
        """The job that embeds the windows. Its file is removed at the end, unless --embeddings names it."""
        return EmbedOptions(
            bundle=self.bundle,
            folder=self.folder,
            out=self.embeddings or self.out.with_name(f"{self.out.name}.windows.parquet"),
            per="window",
            hop_seconds=self.hop_seconds,
            backend=self.backend,
            precision=self.precision,
            threads=self.threads,
            processes=self.processes,
            ray=self.ray,
            update=self.update,
            trust=self.trust,
            overwrite=self.overwrite and (self.embeddings is None or self._discards_job),
            out_flag="--out" if self.embeddings is None else "--embeddings",
            purpose=str(self.out.resolve()),
        )

    @property
    def is_begun(self) -> bool:
        """Whether a job for this table goes on, which may replace the files that existed when it began."""
        if self.embeddings is None:
            return self.windows.parts.exists() or self.windows.out.exists()
        return begun_for(self.windows.parts) == self.windows.purpose  # not if serving.embed began it

    @property
    def may_replace(self) -> bool:
        """Whether existing tables may be replaced. To be asked before the work: it makes `is_begun` true."""
        return self.overwrite or self.update or self.is_begun

    @property
    def _discards_job(self) -> bool:
        """Whether --overwrite concerns an unfinished job of --embeddings. Their finished file is otherwise kept."""
        return self.embeddings is not None and not self.update and parts_of(self.embeddings).exists()


def check_label_options(options: LabelOptions) -> None:
    """Raise UsageError if a flag is out of range, or an existing file would be replaced without --overwrite."""
    if options.threshold is not None and not -1 <= options.threshold <= 1:
        raise UsageError(f"--threshold: got {options.threshold:g}; wanted a cosine, -1 to 1")
    if options.probability is not None and not 0 <= options.probability <= 1:
        raise UsageError(f"--probability: got {options.probability:g}; wanted 0 to 1")
    if options.top < 1:
        raise UsageError(f"--top: got {options.top}; wanted 1 or more")
    if options.offset is not None and not -LARGEST_OFFSET <= options.offset <= LARGEST_OFFSET:
        raise UsageError(f"--offset: got {options.offset}; wanted {-LARGEST_OFFSET:g} to {LARGEST_OFFSET:g}")
    if options.format is None and not options.per_recording and options.out.suffix.lower() not in SUFFIX_FORMATS:
        raise UsageError(
            f"--out: got {options.out}; wanted a name that ends with .csv or .parquet, or --format raven or audacity"
        )
    named = SUFFIX_FORMATS.get(options.out.suffix.lower(), options.form)
    if named != options.form and not options.per_recording:
        raise UsageError(
            f"--out: got {options.out} with --format {options.form}; wanted another name, because {options.out.suffix} "
            f"names the format {named}"
        )
    if options.update and options.embeddings is None:
        raise UsageError(
            "--update: needs --embeddings FILE.parquet, where the embeddings of recordings that are done are kept"
        )
    if options.embeddings is not None and options.embeddings.resolve() == options.out.resolve():
        raise UsageError(f"--embeddings: got {options.embeddings}, which is --out too; give another")
    windows = options.windows
    for path in (options.out, options.errors):
        if path.exists() and not options.may_replace:
            raise UsageError(f"{path}: exists already; give another --out, or --overwrite to replace it")
    if options.out.is_dir() != options.per_recording and options.out.exists():
        kind = "folder" if options.out.is_dir() else "file"
        raise UsageError(f"--out: {options.out} is a {kind}; give another --out")
    if options.per_recording:
        _check_tables_folder(options)
    check_options(windows, may_exist=True)
    refuse_unwritable(options.out.parent, "--out")


def _check_tables_folder(options: LabelOptions) -> None:
    """Raise UsageError if --out is another folder than one of tables, or holds what the command reads.

    The folder is replaced whole, so what lies in it would go. Checked before the work, which may take days.
    """
    out = options.out.resolve()
    for name, path in (
        ("--embeddings", options.embeddings),
        ("--labels", label_file_of(options.labels)),
        ("recordings", options.folder),
        ("bundle", options.bundle),
    ):
        if path is not None and path.resolve().is_relative_to(out):
            raise UsageError(f"{name}: got {path}, which is in {options.out}, a folder that is replaced; give another")
    refuse_existing(options.out, True, MARK)
    inside = next((name for name in walk_recordings(out) if name and not name.endswith("/")), None)
    if inside is not None:
        raise UsageError(f"--out: {options.out / inside} is a recording; move it, because the folder is replaced")
