"""A bundle on this machine: each backend opened, held against PyTorch's embeddings, and timed."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from serving.backends.choose import BACKENDS, open_backend, probe_difference
from serving.bundle import BF16, ZEROSHOT, Bundle, open_bundle
from serving.cores import usable_cores
from serving.embedder import MAX_BATCH
from serving.errors import BackendError, UnheardError
from serving.machine import Finding, reason_of
from serving.text import GET, TextModel, text_source
from serving.zeroshot import ZeroShot, unit_rows

TIMED_CALLS = 5
LEAST_COSINE = 0.99  # with a class vector, both of them centred; 0.9995 before that is what the export asks for


def examine_bundle(folder: Path) -> Iterator[Finding]:
    """Whether a bundle is whole, and what each backend makes of it."""
    try:
        bundle = open_bundle(folder)
    except UnheardError as error:
        yield Finding("bundle", "cannot be used", "broken", str(error))
        return
    manifest = bundle.manifest
    yield Finding("bundle", f"{manifest.network} in {', '.join(manifest.models)}; its files are whole")
    for precision in manifest.models:
        times: dict[str, float] = {}
        for backend in BACKENDS[1:]:
            yield _try_backend(bundle, backend, precision, times)
        yield _try_auto(bundle, precision, times)
    yield _try_backend(bundle, "openvino", BF16, {})
    yield _try_text_model(bundle)


def _try_backend(bundle: Bundle, backend: str, precision: str, times: dict[str, float]) -> Finding:
    """Open, compare and time one; its milliseconds a window go into `times`."""
    title = f"{backend}, {precision}"
    try:
        runtime = open_backend(bundle, backend, precision, usable_cores())
    except BackendError as error:
        return Finding(title, "must not be used", "broken", str(error))
    except UnheardError as error:
        return Finding(title, "not here", "absent", str(error))
    windows = 0.1 * np.random.default_rng(0).standard_normal((MAX_BATCH, bundle.manifest.window.samples), np.float32)
    seconds = []
    for _ in range(1 + TIMED_CALLS):  # the first warms up
        start = time.perf_counter()
        runtime(windows)
        seconds.append(time.perf_counter() - start)
    times[backend] = 1000 * min(seconds[1:]) / len(windows)
    off, _ = probe_difference(bundle, runtime)
    return Finding(title, f"{times[backend]:.2f} ms a window, off by {off:.1e} on {', '.join(runtime.providers)}")


def _try_auto(bundle: Bundle, precision: str, times: dict[str, float]) -> Finding:
    title = f"auto, {precision}"
    try:
        chosen = open_backend(bundle, "auto", precision, usable_cores()).name
    except UnheardError as error:
        return Finding(title, "no backend works", "broken", str(error))
    fastest = min(times, key=lambda name: times[name], default=chosen)
    if times.get(chosen, 0.0) <= 1.1 * times.get(fastest, 0.0):
        return Finding(title, f"takes {chosen}")
    advice = f"--backend {fastest} was faster just now; measure: python -m benchmarks.latency {bundle.folder}"
    return Finding(title, f"takes {chosen}", advice=advice)


def _try_text_model(bundle: Bundle) -> Finding:
    """Load it, and hold it against the class vectors that training made with its own."""
    source = text_source(bundle)
    zeroshot = ZeroShot.load(bundle.path(ZEROSHOT))
    if source is None or zeroshot.text_mean is None:
        return Finding("text model", "none: only the bundle's own classes can be ranked", "absent", f"if wanted: {GET}")
    place = {"bundle": "the bundle", "packages": "installed packages"}[source]
    try:
        model = TextModel.load(bundle)
        texts = [model.describe(name) for name in zeroshot.class_names]
        vectors = unit_rows(model.encode(texts) - zeroshot.text_mean)
    except Exception as error:  # of any type
        return Finding("text model", f"from {place}: {reason_of(error)}", "broken", GET)
    worst = float((vectors * zeroshot.class_vectors).sum(axis=1).min())
    if not worst >= LEAST_COSINE:
        found = f"{model.encoder} from {place} gives other vectors than training's: least cosine {worst:.4f}"
        return Finding("text model", found, "broken", GET)
    return Finding("text model", f"{model.encoder} from {place} works: labels may be any text")
