"""The rows of a latency measurement: one for each stage, and one line for each configuration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import shown
from benchmarks.stages import SHARED, Key
from benchmarks.timing import percentiles

STAGES = ("decode", "resample", "front_end", "network", "pooling")  # what one clip goes through, in this order


@dataclass(frozen=True)
class Row:
    """One stage at one batch size.

    stage                of `STAGES`; model: front end and network; whole: file bytes to embeddings
    backend, precision   that ran it; None for the stages without a model
    threads              of one inference; None: one thread's work
    batch                clips in one call
    windows              windows in one call, the mean where clips differ in length
    n                    durations behind the percentiles; None: derived from the medians of other rows
    p50_ms .. p99_ms     of the whole batch, not of one clip
    clips_per_second     batch / median
    worst_cosine         of the configuration's window embeddings with those of ONNX Runtime in FP32, the worst window
    """

    stage: str
    backend: str | None
    precision: str | None
    threads: int | None
    batch: int
    windows: float
    n: int | None
    p50_ms: float
    p95_ms: float | None
    p99_ms: float | None
    clips_per_second: float
    worst_cosine: float | None


@dataclass(frozen=True)
class Summary:
    """One configuration at one batch size: the medians of its stages, and of the whole its percentiles.

    front_end, network   None where the model cannot be split
    model                front end and network
    sum_of_stages        decode, resample, model and pooling, each timed alone; the whole is timed by itself
    """

    batch: int
    backend: str
    precision: str
    threads: int
    decode: float
    resample: float
    front_end: float | None
    network: float | None
    pooling: float
    model: float
    sum_of_stages: float
    whole_p50: float
    whole_p95: float
    whole_p99: float
    clips_per_second: float
    worst_cosine: float

    @property
    def label(self) -> str:
        """The configuration, like "openvino fp32 x2": the last are its threads."""
        return f"{self.backend} {self.precision} x{self.threads}"


def make_rows(
    durations_ns: Mapping[Key, NDArray[np.int64]], windows: float, worst_cosines: Mapping[tuple[str, str, int], float]
) -> list[Row]:
    """A row for each key, and after each model the row of its network, derived where its front end was timed.

    durations_ns    [n] nanoseconds
    windows         of one clip
    worst_cosines   by (backend, precision, threads)
    """
    rows: list[Row] = []
    for key, samples in durations_ns.items():
        found = percentiles(samples)
        cosine = worst_cosines.get((key.backend or "", key.precision or "", key.threads or 0))

        def add(stage: str, n: int | None, p50: float, p95: float | None, p99: float | None) -> None:
            fields = (key.batch, key.batch * windows, n, p50, p95, p99, 1000 * key.batch / max(p50, 1e-9), cosine)  # noqa: B023
            rows.append(Row(stage, key.backend, key.precision, key.threads, *fields))  # noqa: B023

        add(key.stage, found.n, found.p50_ms, found.p95_ms, found.p99_ms)
        front_end = durations_ns.get(key._replace(stage="front_end"))
        if key.stage == "model" and front_end is not None:
            add("network", None, found.p50_ms - percentiles(front_end).p50_ms, None, None)
    return rows


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """A line for each whole, with its stages' medians."""
    medians = {Key(row.stage, row.batch, row.backend, row.precision, row.threads): row.p50_ms for row in rows}

    def line(whole: Row) -> Summary:
        assert None not in (whole.backend, whole.precision, whole.threads, whole.p95_ms, whole.worst_cosine)
        key = Key("model", whole.batch, whole.backend, whole.precision, whole.threads)
        decode, resample, pooling = (medians[Key(stage, whole.batch)] for stage in SHARED)
        return Summary(
            whole.batch, whole.backend or "", whole.precision or "", whole.threads or 0,
            decode=decode,
            resample=resample,
            front_end=medians.get(key._replace(stage="front_end")),
            network=medians.get(key._replace(stage="network")),
            pooling=pooling,
            model=medians[key],
            sum_of_stages=decode + resample + medians[key] + pooling,
            whole_p50=whole.p50_ms,
            whole_p95=whole.p95_ms or 0.0,
            whole_p99=whole.p99_ms or 0.0,
            clips_per_second=whole.clips_per_second,
            worst_cosine=whole.worst_cosine or 0.0,
        )  # fmt: skip

    return sorted((line(row) for row in rows if row.stage == "whole"), key=lambda each: (each.batch, each.threads))


STAGE_HEAD = ("configuration", "batch", *(stage.replace("_", " ") for stage in STAGES))
WHOLE_HEAD = ("configuration", "batch", "p50", "p95", "p99", "clips/s", "parity")


def stage_lines(summaries: Iterable[Summary]) -> list[list[str]]:
    """The cells under `STAGE_HEAD`: medians of the batch in milliseconds."""
    return [
        [each.label, str(each.batch)]
        + [shown(value) for value in (each.decode, each.resample, each.front_end, each.network)]
        + [f"{each.pooling:.3f}"]
        for each in summaries
    ]


def whole_lines(summaries: Iterable[Summary]) -> list[list[str]]:
    """The cells under `WHOLE_HEAD`: file bytes to embeddings, milliseconds of the batch."""
    return [
        [each.label, str(each.batch)]
        + [shown(value) for value in (each.whole_p50, each.whole_p95, each.whole_p99, each.clips_per_second)]
        + [f"{each.worst_cosine:.7f}"]
        for each in summaries
    ]
