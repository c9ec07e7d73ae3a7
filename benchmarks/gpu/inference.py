"""One model on the GPU: parity with the CPU, and the time of a call by batch, for each way to run it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.piece import Plot, Table, Tables, is_installed, median_ms, number, one_line, parse
from serving.backends.cuda_batches import CudaSettings
from serving.backends.onnxruntime import OnnxRuntime
from serving.bundle.bundle import Bundle, open_bundle
from serving.cosine import worst_cosine

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]

RANDOM = "random weights"
DEFAULT = CudaSettings()
VARIANTS = {
    "as shipped": DEFAULT,
    "without CUDA graphs": replace(DEFAULT, graphs=False),
    "channels last": replace(DEFAULT, nhwc=True),
    "2 slots of 64": replace(DEFAULT, sizes=(1, 8, 64), slots=2),
    "1 slot of 256": replace(DEFAULT, sizes=(1, 8, 64, 256), slots=1),
    "exhaustive search": replace(DEFAULT, search="EXHAUSTIVE"),
    "plain session": replace(DEFAULT, sizes=()),
}


def ways(
    bundle: Bundle, precision: str, device: str, quick: bool
) -> Iterator[tuple[str, Callable[[], tuple[Run, str]]]]:
    """Each way to run the model: its name, and what opens it and says what is special."""
    model = bundle.model(precision)

    def cuda(settings: CudaSettings) -> tuple[Run, str]:
        run = OnnxRuntime(model, 1, [device], strict=True, cuda=settings)
        run.warm_up()
        if run.batches is None:
            why = "cuda-python is not installed: batches as they come"
            return run, why if settings.sizes and device == "cuda" else ""
        return run, "; ".join(f"{size}: {why}" for size, why in run.batches.refused.items())

    for name, settings in VARIANTS.items():
        yield f"{device.upper()} provider, {name}", lambda settings=settings: cuda(settings)
    if is_installed("tensorrt") or is_installed("tensorrt_rtx"):
        yield "TensorRT engine", lambda: _tensorrt(bundle, precision)
    if is_installed("torch"):
        yield "PyTorch, eager", lambda: _torch(bundle, precision, device, compiled=False)
        if not quick:  # the last one: it compiles anew for each size
            yield "PyTorch, compiled", lambda: _torch(bundle, precision, device, compiled=True)


def _tensorrt(bundle: Bundle, precision: str) -> tuple[Run, str]:
    from serving.backends.tensorrt import TensorRT, find_engine

    return TensorRT(find_engine(bundle, precision), bundle), ""


def _torch(bundle: Bundle, precision: str, device: str, compiled: bool) -> tuple[Run, str]:
    """The same network without its trained weights, in PyTorch: front end in FP32, network by autocast."""
    import torch

    from serving.log_mel import LogMelConfig
    from training.log_mel_module import LogMel
    from training.networks import NetworkConfig, build_network

    place = torch.device(device)
    log_mel = LogMel(LogMelConfig(**bundle.manifest.front_end)).eval().to(place)
    network = build_network(NetworkConfig(bundle.manifest.network, 2, 0.0)).eval().to(place)

    def embed(waves: Any) -> Any:
        features = log_mel(waves)
        with torch.autocast(place.type, torch.float16 if device == "cuda" else torch.bfloat16, precision == "fp16"):
            return network.embed(features).float()

    work = torch.compile(embed, mode="reduce-overhead") if compiled else embed

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return work(torch.from_numpy(batch).to(place)).cpu().numpy()

    return run, RANDOM


def main() -> None:
    """Measure and write the table."""
    options = parse("inference", "bundle")
    tables = Tables(options.json)
    bundle = open_bundle(Path(options.bundle))
    samples, network = bundle.manifest.window.samples, bundle.manifest.network
    batches, seconds = ([1, 8], 0.02) if options.quick else ([1, 8, 64, 256], 0.25)
    if options.device == "cpu":  # for which large batches take seconds
        batches = [1, 8]
    waves = 0.1 * np.random.default_rng(0).standard_normal((batches[-1], samples)).astype(np.float32)
    few = waves[:40]
    cpu = OnnxRuntime(bundle.model("fp32"), 4, ["cpu"])
    expected = np.concatenate([cpu(part) for part in np.array_split(few, -(-len(few) // 8))])
    title = f"{network}, {options.precision}: ms a call"
    head = ["way", "opened in s", "worst cosine with the CPU", *(f"{size} windows, ms" for size in batches), "note"]
    notes = (f"NumPy in, NumPy out; median of {seconds:g} s of calls",)
    rows: list[list[str]] = []
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, open_way in ways(bundle, options.precision, options.device, options.quick):
        try:
            started = time.perf_counter()
            run, note = open_way()
            opened = time.perf_counter() - started
            cosine = "-" if note == RANDOM else f"{worst_cosine(run(few), expected):.7f}"
            times = [median_ms(partial(run, waves[:size]), seconds) for size in batches]
        except Exception as error:  # of any kind: the other ways are measured all the same
            rows.append([name, "-", "-", *["-"] * len(batches), one_line(error)])
            continue
        rows.append([name, f"{opened:.1f}", cosine, *map(number, times), note])
        lines[name] = list(zip(map(float, batches), times, strict=True))
        numbers = {f"{each}, {size:.0f}": ms for each, points in lines.items() for size, ms in points}
        del run  # and its memory on the GPU
        plot = Plot(title, "windows in a call", "ms", lines)
        tables.put(Table(title, head, rows, notes, plot, numbers))
    if not lines:
        tables.put(Table(title, head, rows, notes))


if __name__ == "__main__":
    main()
