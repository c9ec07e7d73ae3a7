"""The flags of `python -m serving.embed`, and what is checked before the work begins."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from serving.errors import UsageError
from serving.files.new_folder import refuse_unwritable
from serving.trust_option import Trusted


@dataclass(frozen=True)
class EmbedOptions:
    """Embed every recording of a folder and its subfolders into one Parquet file."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle's folder"""
    folder: Annotated[Path, tyro.conf.Positional]
    """folder of the recordings, searched at any depth; links to folders are not followed; WAV, FLAC, OGG, Opus, MP3,
    AIFF, W64, AU and CAF files, and with the extra `formats` M4A, AAC, MP4, WebM, WMA and others"""
    out: Path
    """the Parquet file to write; the folder X.parquet.parts beside it holds the unfinished job"""
    per: Literal["clip", "window"] = "clip"
    """one row for each recording, or one for each window of it"""
    backend: str = "auto"
    """auto, onnxruntime, openvino or tensorrt"""
    precision: str = "fp32"
    """of the model: fp32, fp16 or int8, if the bundle has it; bf16: fp32 with OpenVINO in bfloat16"""
    threads: Annotated[int | None, tyro.conf.arg(aliases=["--workers"])] = None
    """CPU threads for decoding, and as many for the model; with --ray local: workers; default: the physical cores"""
    processes: int | None = None
    """worker processes, each with one thread and its own model, or with the model on the GPU; 1: threads only; default:
    one for each of --threads if they are more than 4, the job is large and memory allows"""
    hop_seconds: float | None = None
    """from the start of a window to the start of the next one, in seconds: shorter than a window, the windows overlap;
    default: the network's own hop, without an overlap"""
    max_seconds: float | None = None
    """longest recording in seconds; longer ones are listed as errors; default: no limit, because a recording of any
    length takes no more memory than a short one, besides half a kilobyte for each window"""
    ray: str | None = None
    """run on Ray: local, or HOST:PORT of a cluster that includes this machine and sees the same folders"""
    update: bool = False
    """bring an existing --out up to date: embed recordings that are new or changed, keep all other rows"""
    overwrite: bool = False
    """replace the output, and discard an unfinished job"""
    trust: Trusted = ()
    out_flag: Annotated[str, tyro.conf.Suppress, tyro.conf.Fixed] = "--out"
    """the flag that sets `out` in the command that runs the job, for messages"""
    purpose: Annotated[str, tyro.conf.Suppress, tyro.conf.Fixed] = ""
    """what the rows are for, if not for `out` alone, see `begun_for`"""

    @property
    def errors(self) -> Path:
        """The CSV file for recordings that could not be used."""
        return self.out.with_name(f"{self.out.stem}.errors.csv")

    @property
    def parts(self) -> Path:
        """The folder of the unfinished job."""
        return parts_of(self.out)

    @property
    def begin_anew(self) -> str:
        """The way out of a finished file that cannot be used, for messages."""
        # serving.label's --overwrite does not remove a finished file of --embeddings.
        return f"give another {self.out_flag}" + ", or --overwrite to begin anew" * (self.out_flag == "--out")


def check_options(options: EmbedOptions, may_exist: bool = False) -> None:
    """Raise UsageError if a flag is out of range, or an existing file would be replaced without --overwrite.

    may_exist   an existing --out is no error: the caller reads it
    """
    if not options.out.name or not _is_utf8(options.out):
        raise UsageError(f"{options.out_flag}: got {str(options.out)!r}; wanted the name of a Parquet file")
    if options.max_seconds is not None and not 0 < options.max_seconds < float("inf"):
        raise UsageError(f"--max-seconds: got {options.max_seconds:g}; wanted a positive number")
    if options.threads is not None and options.threads < 1:
        raise UsageError(f"--threads: got {options.threads}; wanted 1 or more, or none for all cores")
    if options.folder.is_file():
        raise UsageError(f"{options.folder}: is a file; give its folder, {options.folder.parent}")
    if not options.folder.is_dir():
        raise UsageError(f"{options.folder}: no such folder; give the one with the recordings")
    if options.update and options.overwrite:
        raise UsageError("--update: does not go with --overwrite, which begins anew; give one of them")
    for path in (options.out, options.errors):
        # An unfinished job may replace the files that existed when it began.
        may = may_exist or options.update or options.overwrite or options.parts.exists()
        if path.is_dir() or (path.exists() and not may):
            raise UsageError(
                f"{path}: exists already; give another {options.out_flag}, --update to add to it, or --overwrite to "
                "replace it"
            )
    refuse_unwritable(options.out.parent, options.out_flag)


def parts_of(out: Path) -> Path:
    """The folder of the unfinished job that writes this file."""
    return out.with_name(f"{out.name}.parts")


def _is_utf8(path: Path) -> bool:
    """Whether the path is valid UTF-8, which Arrow requires."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
