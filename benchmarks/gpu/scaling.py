"""What 1, 4 and 8 GPUs would do, computed from measured parts: the slowest part of each way gives its speed.

    python -m benchmarks.gpu.scaling

Training with torchrun: each process takes its part of the batch. A step lasts as long as the part's step, and the
collectives after it: the gradients, once (a ring sends each byte 2 (k - 1) / k times), and the sums of each BatchNorm,
two forward and two backward, which are small but wait for each other.
Training without torchrun: one run on each GPU, such as several seeds.
Bulk with Ray: each GPU has a process that runs the network, and cores that decode; the command's process writes rows.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.gpu.one_line_parser import OneLineParser

GPUS = (1, 4, 8)


@dataclass(frozen=True)
class Parts:
    """Measured parts, and where they come from. Times in milliseconds.

    step_ms           of one training step of `batch` half windows on one GPU, yamnet
    gradient_mb       of yamnet
    batch_norms       layers of yamnet with statistics that all processes share
    collective_ms     one small collective of NCCL between GPUs of one machine; assumed
    link_gb_per_s     of a GPU to the others; assumed (NVLink)
    prepare_ms        CPU time of one core to decode and cut a FLAC file of 5 s
    serve_ms          CPU time of the process with the GPU for one window: it copies it twice
    network_ms        of the GPU for one window
    write_ms          CPU time of the command's process for one file
    prepare_ms, serve_ms and write_ms were measured on a core of an AMD EPYC.
    """

    source: str = "one H100 80GB with 16 cores, before steps and batches were captured"
    batch: int = 16
    step_ms: float = 14.0
    gradient_mb: float = 84.0
    batch_norms: int = 27
    collective_ms: float = 0.03
    link_gb_per_s: float = 300.0
    prepare_ms: float = 1.5
    serve_ms: float = 0.07
    network_ms: float = 17.2 / 256
    write_ms: float = 0.04
    cores_a_gpu: int = 16


def measured_parts(tables: Sequence[dict[str, Any]]) -> Parts:
    """The parts with what a measurement gave in place of the older numbers; tables: as the pieces write them."""
    parts = Parts()
    for table in tables:
        numbers = table.get("numbers") or {}
        if table["title"].startswith("Training yamnet:") and numbers.get("ours, 16"):
            parts = replace(parts, step_ms=16_000 / numbers["ours, 16"], source="this page, and collectives as assumed")
        if table["title"].startswith("yamnet, fp16") and numbers.get("CUDA provider, as shipped, 256"):
            parts = replace(parts, network_ms=numbers["CUDA provider, as shipped, 256"] / 256)
    return parts


def torchrun_samples(parts: Parts, gpus: int) -> tuple[float, str]:
    """Samples a second of one run whose batches are shared, and what takes most of its time.

    A part of a batch takes as long as the whole batch where launches and not arithmetic fill the step, so the step is
    taken as it is, and the batch grows with the GPUs.
    """
    if gpus == 1:
        return 1000 * parts.batch / parts.step_ms, "step"
    gradients = 2 * (gpus - 1) / gpus * parts.gradient_mb / parts.link_gb_per_s
    statistics = 4 * parts.batch_norms * parts.collective_ms
    times = {"step": parts.step_ms, "BatchNorm's collectives": statistics, "gradients": gradients}
    return 1000 * parts.batch * gpus / sum(times.values()), max(times, key=lambda name: times[name])


def bulk_files(parts: Parts, gpus: int) -> tuple[float, str]:
    """Files a second in bulk, and the part that limits it."""
    rates = {
        "decoding on the CPU": 1000 * gpus * parts.cores_a_gpu / parts.prepare_ms,
        "copying windows in the GPU's process": 1000 * gpus / parts.serve_ms,
        "the network": 1000 * gpus / parts.network_ms,
        "writing rows in one process": 1000 / parts.write_ms,
    }
    slowest = min(rates, key=lambda name: rates[name])
    return rates[slowest], slowest


def scaling_tables(parts: Parts) -> list[dict[str, Any]]:
    """The tables, each as `benchmarks.gpu.piece.Table` has it."""
    training = []
    for gpus in GPUS:
        together, limit = torchrun_samples(parts, gpus)
        training.append([gpus, f"{together:,.0f}", limit, f"{1000 * gpus * parts.batch / parts.step_ms:,.0f}"])
    bulk = [
        [gpus, gpus * parts.cores_a_gpu, f"{rate:,.0f}", limit]
        for gpus in GPUS
        for rate, limit in [bulk_files(parts, gpus)]
    ]
    notes = [
        f"computed, not measured, from: {parts.source}",
        f"step {parts.step_ms:.3g} ms of {parts.batch} half windows for each GPU, {parts.gradient_mb:g} MB of "
        f"gradients at {parts.link_gb_per_s:g} GB/s, {parts.batch_norms} BatchNorms with 4 collectives of "
        f"{parts.collective_ms:g} ms (the speed of the links is assumed)",
    ]
    bulk_notes = [
        "computed, not measured",
        f"{parts.prepare_ms:g} ms of a core to decode a file of 5 s, {parts.network_ms:.3g} ms of the GPU and "
        f"{parts.serve_ms:g} ms of its process for a window, {parts.write_ms:g} ms of the command's process a file, "
        f"{parts.cores_a_gpu} cores for each GPU",
    ]
    return [
        {
            "title": "Training yamnet on several GPUs (computed)",
            "head": ["GPUs", "torchrun, one run: samples/s", "most time in", "one run on each GPU: samples/s"],
            "rows": training,
            "notes": notes,
        },
        {
            "title": "Bulk embedding with Ray on several GPUs (computed)",
            "head": ["GPUs", "cores", "files/s", "limited by"],
            "rows": bulk,
            "notes": bulk_notes,
        },
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables in Markdown, and the parts as one JSON object."""
    from benchmarks.gpu.page import table_lines

    about = "What 1, 4 and 8 GPUs would do, computed from measured parts."
    OneLineParser(prog="python -m benchmarks.gpu.scaling", description=about).parse_args(argv)
    parts = Parts()
    for table in scaling_tables(parts):
        print("\n".join(table_lines(table)))
    print(json.dumps(asdict(parts)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
