"""Write the results of a whole run for readers: one page with a headline table and five figures, all rows as CSV and
JSON beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.figure import Figure

from benchmarks.efficiency import EfficiencyRow, plot_efficiency
from benchmarks.host import describe_hardware, describe_software
from benchmarks.latency_report import LatencySummary, plot_latency
from benchmarks.load_report import LoadRow, find_knee, plot_load
from benchmarks.peers.peer_rows import PeerRow, best_rows, plot_peers, speed_table
from benchmarks.resamplers import ResamplerRow, resampler_table
from benchmarks.scaling import ScalingRow, plot_scaling
from benchmarks.study import bullet_list, digits, save_figure, to_csv, write_json, write_text
from serving.errors import DataError

LATENCY_PREFIX = "latency-"  # one folder for each bundle
DERIVED = ("ratios", "summaries", "out")  # left out of the collected JSON: they follow from its rows

Row = TypeVar("Row")
Record = Mapping[str, Any]


def collect_records(printed: Mapping[str, Record]) -> dict[str, dict[str, Any]]:
    """The records of one run, in the order of the page's rows.

    printed   folder name -> what the benchmark printed as JSON. Not what is in the folders: those of a run with other
              bundles, or of another machine, may be beside them
    errors    DataError: one is not the record of a benchmark, or they are of different machines
    """
    records = {name: _page_record(name, record) for name, record in printed.items()}
    machines: dict[str, str] = {}  # hardware -> the first record of it
    for name, record in records.items():
        machines.setdefault(describe_hardware(record["machine"]), name)
    if len(machines) > 1:
        found = "; ".join(f"{name}: {machine}" for machine, name in machines.items())
        raise DataError(f"the records are of {len(machines)} machines ({found}); run all benchmarks on one")
    return records


def _page_record(name: str, record: Record) -> dict[str, Any]:
    missing = {"measured_at", "machine", "rows", "notes"} - set(record)
    if missing:
        raise DataError(f"{name}: not the record of a benchmark (no {', '.join(sorted(missing))}); correct its --flags")
    # The page shows one row for each configuration; the stages are its columns.
    return {**record, "rows": record.get("summaries", record["rows"])}


def write_results(records: Mapping[str, Record], page: Path) -> list[Path]:
    """Write the page PAGE.md, PAGE.csv, PAGE.json and the figures PAGE-NAME.png.

    records   by benchmark, as `collect_records` gives them; the rows may lack fields that neither page nor figures show
    returns   the files written
    """
    figures = draw_figures(records)
    machine = describe_hardware(records["peers"]["machine"])
    written = [page, page.with_suffix(".csv"), page.with_suffix(".json")]
    for name, figure in figures.items():
        written.append(page.with_name(f"{page.stem}-{name}.png"))
        save_figure(figure, machine, written[-1])
    rows = [{"study": name, **row} for name, record in records.items() for row in record["rows"]]
    write_text(to_csv(rows), written[1])
    kept = {name: {key: record[key] for key in record if key not in DERIVED} for name, record in records.items()}
    write_json(kept, written[2])
    write_text(make_page(records, page.stem), page)
    return written


def rows_of(record: Record, kind: type[Row]) -> list[Row]:
    """A record's rows as dataclass instances; fields that a row lacks are None."""
    names = [each.name for each in fields(kind)]  # pyright: ignore[reportArgumentType]
    return [kind(**{name: row.get(name) for name in names}) for row in record["rows"]]


def draw_figures(records: Mapping[str, Record]) -> dict[str, Figure]:
    """The figures of the page by name."""
    efficiency, scaling = records["efficiency"], records["scaling"]
    latencies = [record for name, record in records.items() if name.startswith(LATENCY_PREFIX)]
    served = records["peers"]["bundles"][0]["network"]
    return {
        "peers": plot_peers(rows_of(records["peers"], PeerRow)),
        "stages": plot_latency({each["bundle"]["name"]: rows_of(each, LatencySummary) for each in latencies}),
        "load": plot_load(rows_of(records["load"], LoadRow), f"Throughput and latency of the server with {served}"),
        "efficiency": plot_efficiency(
            rows_of(efficiency, EfficiencyRow), efficiency["peak_gflops"], efficiency["settings"]["threads"]
        ),
        "scaling": plot_scaling(rows_of(scaling, ScalingRow), scaling["bundle"]["network"]),
    }


def make_page(records: Mapping[str, Record], stem: str) -> str:
    """The page in Markdown."""
    peers, machine = records["peers"], records["peers"]["machine"]
    parts = [
        "# Benchmarks",
        f"From 44.1 kHz sound files to embeddings on {describe_hardware(machine)}. Written by `make bench`; all rows "
        f"are in [{stem}.csv]({stem}.csv) and, with their settings, in [{stem}.json]({stem}.json).",
        "## Unheard and other packages",
        headline(rows_of(peers, PeerRow)),
        f"![Throughput and latency of Unheard and other packages]({stem}-peers.png)",
        "## Where the time goes",
        _stage_notes([record for name, record in records.items() if name.startswith(LATENCY_PREFIX)]),
        f"![Time of a clip by stage]({stem}-stages.png)",
        "## The server under load",
        _load_sentence(records["load"]),
        f"![Throughput and latency of the server]({stem}-load.png)",
        "## Cost by the number of clips",
        _scaling_sentence(rows_of(records["scaling"], ScalingRow), records["scaling"]["bundle"]["network"]),
        f"![Time of a clip and memory by the number of clips]({stem}-scaling.png)",
        "## Use of the processor",
        f"Two FLOP for each multiply-accumulate of a convolution or matrix product. The peak, "
        f"{records['efficiency']['peak_gflops']:.0f} GFLOP/s, is the fastest FP32 matrix product in the same run.",
        f"![Achieved arithmetic]({stem}-efficiency.png)",
        "## Training",
        "Samples a second by stage, beside a plain recipe that decodes every file in every epoch.",
        _training_table(records["training"]["rows"]),
        "## Resamplers",
        "Time of a clip, and how much embeddings differ from those after soxr's very high quality (VHQ).",
        resampler_table(rows_of(records["resamplers"], ResamplerRow)).markdown(),
        "## How it was measured",
        _conditions(records),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _conditions(records: Mapping[str, Record]) -> str:
    """Machine, time, and the notes of all benchmarks, each of them once."""
    times = sorted(record["measured_at"] for record in records.values())
    loads = ", ".join(
        f"{name} {record['machine']['load_average_before']:g}"
        for name, record in records.items()
        if "load_average_before" in record["machine"]
    )
    notes: dict[str, str] = {}  # note -> the benchmark that it belongs to
    for name, record in records.items():
        for note in record["notes"]:
            notes.setdefault(note, name.split("-")[0])
    return (
        f"Measured from {times[0]} to {times[-1]} on {describe_hardware(records['peers']['machine'])}; "
        f"{describe_software(records['training']['machine'])}. Jobs that are compared took turns in one process, after "
        f"a warm-up; load and scaling ran as stated below. Load average before each benchmark: {loads}.\n\n"
        + bullet_list([f"{name}: {note}" for note, name in notes.items()])
    )


def headline(rows: Sequence[PeerRow]) -> str:
    """The best rows of each of Unheard's networks and the fastest row of each other package, and what they mean."""
    others = sorted((row for row in rows if not row.ours), key=lambda row: -row.clips_per_second)
    fastest_others = {row.name.split(",")[0]: row for row in reversed(others)}
    chosen = sorted([*best_rows(rows), *fastest_others.values()], key=lambda row: -row.clips_per_second)
    table = speed_table(chosen).markdown()
    return (
        "In bulk, and one clip after the other; *from rest* means that the threads were idle before. Parity is the "
        "lowest cosine with the same bundle in FP32; other packages without one have other weights. Networks differ "
        "in size: compare rows of the same network. Shown are the best of each of Unheard's networks, in FP32 and in "
        f"each faster precision, and the fastest row of each other package.\n\n{table}"
    )


def _stage_notes(latencies: Sequence[Record]) -> str:
    skipped = dict(item for record in latencies for item in record["not_measured"].items())
    absent = "; ".join(f"{name} ({why})" for name, why in skipped.items())
    text = (
        "Each stage was timed alone. The diamond is the whole way from file to embedding, timed by itself; it is not "
        "exactly the sum of the stages."
    )
    return f"{text} Not measured: {absent}." if absent else text


def _load_sentence(record: Record) -> str:
    text = "Each connection sends its next clip when its last one is answered; client and server share the machine."
    knee = find_knee(rows_of(record, LoadRow))
    if knee is None:
        return text
    return (
        f"{text} The smallest load with 95 % of the greatest throughput is {knee.connections} connections: "
        f"{digits(knee.per_second)} answers a second, half of them within {digits(knee.p50_ms)} ms and 99 % within "
        f"{digits(knee.p99_ms)} ms."
    )


def _scaling_sentence(rows: Sequence[ScalingRow], network: str) -> str:
    same = [row for row in rows if row.way == "embed_files"]
    first, last = same[0], same[-1]
    return (
        f"With {network}, a clip takes {digits(first.ms_a_clip)} ms in {first.clips:,} clips and "
        f"{digits(last.ms_a_clip)} ms in {last.clips:,}; resident memory reaches {digits(first.most_mb)} and "
        f"{digits(last.most_mb)} MB. `python -m serving.embed` also starts a process and writes a Parquet file."
    )


def _training_table(rows: Sequence[Mapping[str, Any]]) -> str:
    # Rows as they are in JSON: their dataclass lives beside PyTorch, which a page does not need.
    lines = ["| stage | Unheard, samples/s | plain recipe, samples/s | ratio |", "|---|---:|---:|---:|"]
    for row in rows:
        ratio = "-" if row["times"] is None else f"{row['times']:.1f}"
        lines.append(
            f"| {row['stage']} | {digits(row['ours_per_second'])} | {digits(row['plain_per_second'])} | {ratio} |"
        )
    return "\n".join(lines)
