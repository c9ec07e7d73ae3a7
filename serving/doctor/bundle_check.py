"""Check a bundle on this machine: open every backend, compare it with PyTorch's embeddings, and time it."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from serving.backends.backend_choice import BACKENDS, open_backend
from serving.backends.probe_check import probe_difference
from serving.bundle.bundle import Bundle, open_bundle
from serving.bundle.bundle_files import BF16, ZEROSHOT
from serving.cores import usable_cores
from serving.doctor.finding import Finding, reason_of
from serving.embedder import MAX_BATCH
from serving.errors import BackendError, UnheardError
from serving.teaching.taught_record import read_record
from serving.text_model.text_model import TextModel
from serving.text_model.text_source import WAY_OUT, text_source
from serving.zeroshot import unit_rows
from serving.zeroshot.zeroshot_file import parse_zeroshot

TIMED_CALLS = 5
LEAST_COSINE = 0.99  # between centred vectors; the export requires 0.9995 before the centring, which enlarges angles


def examine_bundle(folder: Path, trusted: Sequence[Path] = ()) -> Iterator[Finding]:
    """Check the files of a bundle, each backend in each precision, and the text model."""
    try:
        bundle = open_bundle(folder, trusted)
    except UnheardError as error:
        yield Finding("bundle", "cannot be used", "broken", str(error))
        return
    manifest = bundle.manifest
    yield Finding("bundle", f"{manifest.network} in {', '.join(manifest.models)}; its files are whole")
    for precision in manifest.models:
        times: dict[str, float] = {}
        for backend in BACKENDS[1:]:
            yield _check_backend(bundle, backend, precision, times)
        yield _check_auto(bundle, precision, times)
    yield _check_bf16(bundle)
    yield _check_text_model(bundle)


def _check_backend(bundle: Bundle, backend: str, precision: str, times: dict[str, float]) -> Finding:
    """Open, compare and time one backend, and add its milliseconds per window to `times`."""
    title = f"{backend}, {precision}"
    try:
        runtime = open_backend(bundle, backend, precision, usable_cores())
    except BackendError as error:
        return Finding(title, "must not be used", "broken", str(error))
    except UnheardError as error:
        return Finding(title, "not here", "absent", str(error))
    windows = 0.1 * np.random.default_rng(0).standard_normal((MAX_BATCH, bundle.manifest.window.samples), np.float32)
    seconds = []
    for _ in range(1 + TIMED_CALLS):  # the first call warms up
        start = time.perf_counter()
        runtime(windows)
        seconds.append(time.perf_counter() - start)
    times[backend] = 1000 * min(seconds[1:]) / len(windows)
    distance, _ = probe_difference(bundle, runtime)
    return Finding(title, f"{times[backend]:.2f} ms a window, off by {distance:.1e} on {', '.join(runtime.providers)}")


def _check_bf16(bundle: Bundle) -> Finding:
    """bfloat16 has no file, and is computed only where a user asks for it: a bundle that it blurs is not broken."""
    found = _check_backend(bundle, "openvino", BF16, {})
    if found.state != "broken":
        return found
    return Finding(found.what, "not exact enough for this bundle", "absent", f"{found.advice}: take fp32")


def _check_auto(bundle: Bundle, precision: str, times: dict[str, float]) -> Finding:
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


def _check_text_model(bundle: Bundle) -> Finding:
    """Load the text model, and compare its vectors with the class vectors from the training."""
    source = text_source(bundle)
    zeroshot = parse_zeroshot(bundle.read(ZEROSHOT), ZEROSHOT, bundle.manifest.embedding_size)
    if source is None or zeroshot.text_mean is None:
        found = "none: only the bundle's own classes can be ranked"
        return Finding("text model", found, "absent", f"if wanted: {WAY_OUT}")
    place = {"bundle": "the bundle", "packages": "installed packages"}[source]
    try:
        model = TextModel.load(bundle)
        taught = {name for name, each in read_record(bundle).items() if each.description}  # a description of its own
        compared = zeroshot.has_text & np.array([name not in taught for name in zeroshot.class_names])
        names = [name for name, is_compared in zip(zeroshot.class_names, compared, strict=True) if is_compared]
        vectors = model.encode_labels(names or ["sound"]) - zeroshot.text_mean
    except Exception as error:  # a library may raise any type
        return Finding("text model", f"from {place}: cannot be loaded", "broken", f"{reason_of(error)}; {WAY_OUT}")
    worst = float((unit_rows(vectors) * zeroshot.class_vectors[compared]).sum(axis=1).min()) if names else 1.0
    if not worst >= LEAST_COSINE:
        found = f"{model.encoder} from {place} gives other vectors than training's: least cosine {worst:.4f}"
        return Finding("text model", found, "broken", WAY_OUT)
    return Finding("text model", f"{model.encoder} from {place} works: labels may be any text")
