"""Bundles without a training run: tiny graphs, or the real networks with random weights."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.audio import Window
from serving.bundle.bundle import Bundle, open_bundle
from serving.bundle.bundle_files import PRECISIONS
from serving.bundle.manifest import Manifest, write_manifest
from serving.log_mel import LogMelConfig
from serving.zeroshot import ZeroShot

WINDOWS = {"yamnet": 77_040, "yamnet-compact": 77_040, "vggish": 15_600}  # samples


def write_small_bundle(folder: Path, models: Mapping[str, bytes | None], network: str = "yamnet-compact") -> Bundle:
    """Write a bundle that was never trained.

    models   precision -> the content of its file; None: the file is in the folder already
    """
    folder.mkdir(parents=True, exist_ok=True)
    for precision, content in models.items():
        if content is not None:
            (folder / PRECISIONS[precision]).write_bytes(content)
    samples = WINDOWS[network]
    manifest = Manifest(
        network=network,
        objective="classes",
        front_end=asdict(LogMelConfig()),
        window=Window(16_000, samples, samples - 240),
        input="waveform",
        models={precision: PRECISIONS[precision] for precision in models},
        fp32_layers=[],
        embedding_size=128,
        dataset="none",
        split="all",
        run="none",
        init=None,
        seen_classes=[],
        scores={},
        license="none",
        git_commit="unknown",
        embedding_space="5" * 64,
    )
    write_manifest(folder, manifest)
    return open_bundle(folder)


def tiny_graph(samples: int = 77_040) -> onnx.ModelProto:
    """waveform [batch, samples] -> embedding [batch, 128]: the mean of each 128th of the samples, doubled."""
    part = samples // 128
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["waveform", "zero", "end", "one"], ["used"]),
            helper.make_node("Reshape", ["used", "shape"], ["parts"]),
            helper.make_node("ReduceMean", ["parts", "two"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "doubled"], ["embedding"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", samples])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 128])],
        [
            numpy_helper.from_array(np.array([0]), "zero"),
            numpy_helper.from_array(np.array([128 * part]), "end"),
            numpy_helper.from_array(np.array([1]), "one"),
            numpy_helper.from_array(np.array([0, 128, part]), "shape"),
            numpy_helper.from_array(np.array([2]), "two"),
            numpy_helper.from_array(np.full(128, 2, np.float32), "doubled"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def small_zeroshot() -> ZeroShot:
    """Three classes and vectors of 8 numbers, drawn at random."""
    rng = np.random.default_rng(0)
    projection, vectors = (rng.standard_normal(shape).astype(np.float32) for shape in ((128, 8), (3, 8)))
    return ZeroShot(np.zeros(128, np.float32), projection, ["a", "b", "c"], vectors, np.ones(3, bool), 1.0)


def write_untrained_bundle(folder: Path, network: str, precisions: Sequence[str]) -> Bundle:
    """Write a bundle of a real network with random weights, each precision as the export writes it.

    Every layer that can be INT8 is INT8: the parity bound for trained weights does not apply to random ones.
    """
    import logging
    from unittest import mock

    import torch

    from export import precision
    from export.dft_factors import factor_basis
    from export.graph import WaveformEmbedder, export_graph, fold_batch_norm, write_graph
    from training.log_mel_module import LogMel
    from training.networks import NetworkConfig, build_network

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of every package that it could use
    torch.manual_seed(0)
    built = build_network(NetworkConfig(network, 3, 0.2)).eval()
    embedder = fold_batch_norm(WaveformEmbedder(LogMel(LogMelConfig()).eval(), built))
    source = ("waveform", (WINDOWS[network],))
    folder.mkdir(parents=True, exist_ok=True)
    write_graph(export_graph(embedder, source, "embedding"), folder / PRECISIONS["fp32"], {})
    if "fp16" in precisions:
        half = precision.half_precision(embedder)
        write_graph(export_graph(half, source, "embedding"), folder / PRECISIONS["fp16"], {})
    if "int8" in precisions:
        noise = 0.1 * np.random.default_rng(0).standard_normal((4, WINDOWS[network])).astype(np.float32)
        with mock.patch.multiple(precision, LEAST_COSINE=-1.0, LEAST_RANKING=0.0):
            parts = noise[:2], noise[2:3], noise[3:]
            quantised = precision.quantise(folder / PRECISIONS["fp32"], *parts, small_zeroshot())
        assert quantised.fp32_layers == []
        factor_basis(quantised.model)
        write_graph(quantised.model, folder / PRECISIONS["int8"], {})
    return write_small_bundle(folder, dict.fromkeys(precisions), network)
