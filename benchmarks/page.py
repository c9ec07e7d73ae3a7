"""Write the page of a whole run from what each program left behind: tables, pictures and what they depend on."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import bullets, replace_file, shown, to_markdown, write_text
from benchmarks.runtimes import GPU_RUNTIMES
from serving.errors import DataError

MANY = "latency-"  # of these there is one for each bundle
SECTIONS = {
    "peers": (
        "Beside other packages",
        "From 44.1 kHz files to embeddings, in bulk and one by one. `Unheard` is this project, in FP32 where no "
        "other precision is named. What each computes stands below, for a network with more layers has to be slower.",
    ),
    "resamplers": (
        "Resamplers",
        "What a resampler costs, and how far embeddings move from those after soxr's very high quality.",
    ),
    "load": (
        "The server under load",
        "Closed loop: each connection sends its next clip when the last is answered. Open loop: clips arrive by "
        "chance. The knee is the least load that reaches 95 % of the greatest throughput; client and server share "
        "the machine.",
    ),
    "training": (
        "Training",
        "Samples a second by stage, beside the recipe that decodes every file in every epoch.",
    ),
    "efficiency": (
        "Compute efficiency",
        "Arithmetic that the graphs need (two FLOP for each multiply-accumulate of a convolution or matrix product), "
        "by the time they take, beside the fastest FP32 matrix product measured in the same run.",
    ),
    "scaling": (
        "Cost by the number of clips",
        "The same files, repeated. Flat milliseconds and flat memory are what linear cost means.",
    ),
}


def write_page(results: Path, page: Path) -> list[Path]:
    """Write the page, and the pictures beside it as PAGE-NAME.png.

    results   holds a folder for each program: peers, latency-BUNDLE (several), resamplers, load, training, efficiency
              and scaling
    returns   the files written
    errors    DataError: a program's files are missing or not its own
    """
    latencies = sorted(path.name for path in results.glob(f"{MANY}*") if path.is_dir())
    if not latencies:
        raise DataError(f"{results}: holds no {MANY}BUNDLE folder; run the benchmarks again")
    records = {name: _read(results, name) for name in ("peers", *latencies, *list(SECTIONS)[1:])}
    machine = records["peers"]["machine"]
    told = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['ram_gib']:g} GiB, "
        f"{', '.join(machine['gpus']) or 'no GPU'}; {machine['os']}"
    )
    measured = sorted(record["measured_at"] for record in records.values())
    parts = [
        "# Benchmarks",
        "Written by `make bench` from the JSON of one run, never by hand. Times are medians unless a column says "
        "otherwise; every job took turns with those that it is compared with, after warm-up.",
        f"{told}. Measured from {measured[0]} to {measured[-1]}.",
    ]
    written: list[Path] = []
    for name, record in records.items():
        if name in SECTIONS:
            title, intro = SECTIONS[name]
        else:
            title = f"Latency of {record['bundle']['name']} ({record['bundle']['network']})"
            intro = "Where the milliseconds go, for every backend and precision; parity stands beside speed."
        picture = page.with_name(f"{page.stem}-{name}.png")
        stem = name.split("-")[0]
        replace_file(picture, lambda path, name=name, stem=stem: shutil.copyfile(results / name / f"{stem}.png", path))
        written.append(picture)
        text = (results / name / f"{stem}.md").read_text().strip()
        parts += [f"## {title}", intro, text, f"![{title}]({picture.name})"]
    parts += ["## GPU", _gpu_section([records[name] for name in latencies])]
    write_text("\n\n".join(parts) + "\n", page)
    return [page, *written]


def _read(results: Path, name: str) -> dict[str, Any]:
    stem = name.split("-")[0]
    try:
        record = json.loads((results / name / f"{stem}.json").read_bytes())
        for suffix in ("md", "png"):
            if not (results / name / f"{stem}.{suffix}").is_file():
                raise FileNotFoundError(2, f"no {stem}.{suffix}")
        if not {"measured_at", "machine"} <= set(record):
            raise KeyError("no machine, no time")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{results / name}: not what a benchmark leaves ({error}); run the benchmarks again") from error
    return record


def _gpu_section(latencies: Sequence[Mapping[str, Any]]) -> str:
    """CUDA, the TensorRT provider and native engines: numbers where they ran, and why not where they did not."""
    lines = [
        [
            f"{record['bundle']['name']}, {row['backend']} {row['precision']}",
            *(str(row["batch"]), shown(row["whole_p50"]), shown(row["whole_p99"]), shown(row["clips_per_second"])),
            f"{row['worst_cosine']:.7f}",
        ]
        for record in latencies
        for row in record["summaries"]
        if row["backend"] in GPU_RUNTIMES
    ]
    refused = {
        name: why
        for record in latencies
        for name, why in record["not_measured"].items()
        if name.split(",")[0] in GPU_RUNTIMES
    }
    table = to_markdown(("bundle, backend", "batch", "p50 ms", "p99 ms", "clips/s", "parity"), lines) if lines else ""
    return f"{table}\n{bullets([f'{name}: not measured: {why}' for name, why in refused.items()])}".strip()
