"""Bundles from strangers, whose hashes are right: each is refused with one line, soon, and with little memory."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.embedder import Embedder
from serving.errors import UnheardError

GOOD = Path("demo/model-from-scratch")
ROOT = Path(__file__).parents[2]
Fields = dict[str, Any]


def write_bundle(folder: Path, change: Callable[[Fields], None], listed: list[str]) -> None:
    """Change the manifest's fields, and give it the hashes of its files, and a digest, that are right."""
    fields = json.loads((folder / "manifest.json").read_text())
    del fields["digest"]
    for name in [*fields["files"], *listed]:
        content = (folder / name).read_bytes()
        fields["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    change(fields)
    fields["digest"] = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(fields))


def set_field(*path: str, to: Any) -> Callable[[Fields], None]:
    def change(fields: Fields) -> None:
        for name in path[:-1]:
            fields = fields[name]
        fields[path[-1]] = to

    return change


# Kinds of manifests, and a part of the line that refuses each.
MANIFESTS = {
    "text for a window": (set_field("window", to="5 s"), "window"),
    "number as text": (set_field("window", "samples", to="77040"), "window.samples"),
    "huge window": (set_field("window", "samples", to=2**62), "got the number"),
    "rate of zero": (set_field("window", "rate_hz", to=0), "rate_hz"),
    "no hop": (set_field("window", "hop_samples", to=0), "hop_samples"),
    "hop of one sample": (set_field("window", "hop_samples", to=1), "hop_samples"),
    "network of a number": (set_field("network", to=1), "network"),
    "list of models": (set_field("models", to=["embedder.onnx"]), "models"),
    "model in another file": (set_field("models", "fp32", to="zeroshot.npz"), "models"),
    "model outside": (set_field("models", "fp32", to="../embedder.onnx"), "models"),
    "list of files": (set_field("files", to=[]), "files"),
    "record of a number": (set_field("files", "README.md", to=7), "README.md"),
    "negative size": (set_field("files", "README.md", "size", to=-1), "README.md"),
    "absolute name": (set_field("files", "/etc/passwd", to={"size": 0, "sha256": "0" * 64}), "/etc/passwd"),
    "program": (set_field("files", "plugin.so", to={"size": 0, "sha256": "0" * 64}), "plugin.so"),
    "2^30 bins": (set_field("front_end", "fft_bins", to=2**30), "fft_bins"),
    "negative bands": (set_field("front_end", "mel_bands", to=-1), "mel_bands"),
    "no front end": (set_field("front_end", to={}), "fields"),
    "offset of 1e308": (set_field("front_end", "log_offset", to=1e308), "got the number"),
    "offset of infinity": (set_field("front_end", "log_offset", to=float("inf")), "Infinity"),
    "hop of zero": (set_field("front_end", "hop_s", to=0.0), "hop_s"),
    "control characters": (set_field("dataset", to="ESC-10\x1b]0;owned\x07"), "printable"),
    "turned text": (set_field("license", to="\u202egpj.exe"), "printable"),
    "class of a list": (set_field("seen_classes", to=[["dog"]]), "seen_classes"),
    "long text": (set_field("split", to="x" * 100_000), "printable"),
    "embedding of 2^40": (set_field("embedding_size", to=2**40), "number"),
    "space of a word": (set_field("embedding_space", to="none"), "embedding_space"),
    "unknown field": (set_field("hook", to="os.system"), "fields"),
    "unknown input": (set_field("input", to="spectrum"), "input"),
}


def npz(**arrays: Any) -> bytes:
    with np.load(GOOD / "zeroshot.npz", allow_pickle=False) as stored:
        content = {name: stored[name] for name in stored.files} | arrays
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **{name: value for name, value in content.items() if value is not None})
    return file.getvalue()


def npz_with_member(data: bytes) -> bytes:
    """zeroshot.npz with other bytes as its projection."""
    file = io.BytesIO(npz(projection=None))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("projection.npy", data)
    return file.getvalue()


def inflating_npz() -> bytes:
    """400 kB that become 420 MB."""
    file = io.BytesIO(npz(projection=None))
    with (
        zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("projection.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(420):
            member.write(bytes(1_000_000))
    return file.getvalue()


def header_of(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def nan_projection() -> np.ndarray:
    with np.load(GOOD / "zeroshot.npz", allow_pickle=False) as stored:
        projection = stored["projection"]
    projection[3, 3] = np.nan
    return projection


def without_rows() -> dict[str, np.ndarray]:
    """The arrays of zeroshot.npz that have a row for each class, without rows."""
    with np.load(GOOD / "zeroshot.npz", allow_pickle=False) as stored:
        count = len(stored["class_names"])
        per_class = ("class_names", "class_vectors", "seen", "given_targets", "example_sums")
        return {name: stored[name][:0] for name in stored.files if name in per_class and len(stored[name]) == count}


def graph_with(*nodes: onnx.NodeProto, domain: str = "") -> bytes:
    """waveform -> embedding, and these nodes before it."""
    graph = helper.make_graph(
        [*nodes, helper.make_node("Identity", ["waveform"], ["embedding"])],
        "hostile",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", 77_040])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 128])],
    )
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def loop() -> bytes:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
    )
    rounds = helper.make_node("Constant", [], ["n"], value=helper.make_tensor("n", TensorProto.INT64, [], [2**62]))
    return graph_with(rounds, helper.make_node("Loop", ["n", ""], [], body=body))


def external_weights() -> bytes:
    tensor = TensorProto(
        name="w", dims=[4], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL,
        external_data=[onnx.StringStringEntryProto(key="location", value="../../etc/passwd")],
    )  # fmt: skip
    model = onnx.load_from_string(graph_with())
    model.graph.initializer.append(tensor)
    return model.SerializeToString()


def with_function() -> bytes:
    model = onnx.load_from_string(graph_with())
    node = helper.make_node("Identity", ["x"], ["y"])
    model.functions.append(helper.make_function("own", "Relu", ["x"], ["y"], [node], [helper.make_opsetid("", 20)]))
    return model.SerializeToString()


def growing(*nodes: onnx.NodeProto, **weights: np.ndarray) -> bytes:
    """A graph whose operators are all allowed: from `waveform` to `last`, whose first 128 numbers are the embedding."""
    weights |= {"zero": np.array([0]), "end": np.array([128]), "axis": np.array([1])}
    model = onnx.load_from_string(graph_with())
    del model.graph.node[:]
    model.graph.node.extend([*nodes, helper.make_node("Slice", ["last", "zero", "end", "axis"], ["embedding"])])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return model.SerializeToString()


def doubled(times: int) -> bytes:
    """A tensor joined with itself again and again: a gigabyte after 12 times, from 500 bytes."""
    names = ["waveform", *(f"x{i}" for i in range(times - 1)), "last"]
    return growing(*(helper.make_node("Concat", [a, a], [b], axis=1) for a, b in pairwise(names)))


def column_times_row(operator: str) -> bytes:
    """77 040 x 77 040 numbers from a window."""
    column = helper.make_node("Reshape", ["waveform", "tall"], ["column"])
    row = helper.make_node("Reshape", ["waveform", "wide"], ["row"])
    product = helper.make_node(operator, ["column", "row"], ["last"])
    return growing(column, row, product, tall=np.array([-1, 77_040, 1]), wide=np.array([-1, 1, 77_040]))


def pooled(operator: str, *weights: str, **attributes: Any) -> bytes:
    image = helper.make_node("Reshape", ["waveform", "image"], ["x"])
    large = helper.make_node(operator, ["x", *weights], ["y"], **attributes)
    flat = helper.make_node("Flatten", ["y"], ["last"])
    given = {name: np.zeros((8, 1, 101, 101), np.float32) for name in weights}
    return growing(image, large, flat, image=np.array([-1, 1, 240, 321]), **given)


def repeated_rows() -> bytes:
    """Each number of a window 4000 times, by a list of positions."""
    shaped = helper.make_node("Reshape", ["waveform", "shape"], ["x"])
    gathered = helper.make_node("Gather", ["x", "positions"], ["last"], axis=2)
    return growing(shaped, gathered, shape=np.array([-1, 77_040, 1]), positions=np.zeros(4000, np.int64))


def large_products() -> bytes:
    """Small tensors, and 10^11 multiplications."""
    shaped = helper.make_node("Reshape", ["waveform", "shape"], ["x0"])
    products = [helper.make_node("MatMul", [f"x{i}", "w"], [f"x{i + 1}"]) for i in range(1000)]
    last = helper.make_node("Flatten", ["x1000"], ["last"])
    return growing(shaped, *products, last, shape=np.array([-1, 240, 321]), w=np.eye(321, dtype=np.float32))


def shape_from_values() -> bytes:
    """A shape that depends on the sound."""
    two = helper.make_node("Slice", ["waveform", "zero", "two", "axis"], ["pair"])
    flat = helper.make_node("Reshape", ["pair", "two"], ["flat"])
    sizes = helper.make_node("Cast", ["flat"], ["sizes"], to=TensorProto.INT64)
    return growing(two, flat, sizes, helper.make_node("Reshape", ["waveform", "sizes"], ["last"]), two=np.array([2]))


def claimed_weights() -> bytes:
    model = onnx.load_from_string(doubled(1))
    model.graph.initializer.append(TensorProto(name="w", dims=[2**20, 2**20], data_type=TensorProto.FLOAT))
    return model.SerializeToString()


def many_operators() -> bytes:
    names = ["waveform", *(f"x{i}" for i in range(9000)), "last"]
    return growing(*(helper.make_node("Relu", [a], [b]) for a, b in pairwise(names)))


# (name, what makes the content, a part of the line that refuses it)
FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "npz without a key": ("zeroshot.npz", lambda: npz(projection=None), "projection"),
    "npz with one more": ("zeroshot.npz", lambda: npz(more=np.zeros(3)), "more"),
    "npz of another shape": ("zeroshot.npz", lambda: npz(projection=np.zeros((3, 3), np.float32)), "projection is"),
    "npz of another type": ("zeroshot.npz", lambda: npz(seen=np.zeros(10)), "seen is"),
    "pickled npz": ("zeroshot.npz", lambda: npz(mean=np.array([print], object)), "object"),
    "inflating npz": ("zeroshot.npz", inflating_npz, "bytes, wanted at most"),
    "npz of claimed size": ("zeroshot.npz", lambda: npz_with_member(header_of((2**20, 2**20))), "bytes for"),
    "npz that is none": ("zeroshot.npz", lambda: b"PK\x03\x04" + bytes(1000), "cannot be read"),
    "NaN in a projection": ("zeroshot.npz", lambda: npz(projection=nan_projection()), "not finite"),
    "npz without a class": ("zeroshot.npz", lambda: npz(**without_rows()), "no class"),
    "numbers of 1e30": ("zeroshot.npz", lambda: npz(temperature=np.float32(1e30)), "1e+30"),
    "probes of other sounds": ("probes.npz", lambda: npz(), "probes.npz"),
    "loop": ("embedder.onnx", loop, "embedder.onnx: has a"),
    "external weights": ("embedder.onnx", external_weights, "another file"),
    "own operator": ("embedder.onnx", lambda: graph_with(helper.make_node("Run", ["waveform"], ["x"], domain="own"),
                                                         domain="own"), "'Run' of own"),
    "function": ("embedder.onnx", with_function, "functions"),
    "empty graph": ("embedder.onnx", lambda: b"", "not an ONNX file"),
    "cut graph": ("embedder.onnx", lambda: (GOOD / "embedder.onnx").read_bytes()[:-1000], "embedder.onnx: is"),
    "graph of other sizes": ("embedder.onnx", lambda: graph_with(), "backend"),
    "tensor doubled 12 times": ("embedder.onnx", lambda: doubled(12), "operator Concat"),
    "tensor doubled 90 times": ("embedder.onnx", lambda: doubled(90), "embedder.onnx: "),
    "column times row": ("embedder.onnx", lambda: column_times_row("MatMul"), "operator MatMul"),
    "column plus row": ("embedder.onnx", lambda: column_times_row("Add"), "operator Add"),
    "wide border": ("embedder.onnx", lambda: pooled("Conv", "w", pads=[3000] * 4), "operator Conv"),
    "large kernel": ("embedder.onnx", lambda: pooled("Conv", "w"), "operator Conv"),
    "large pool": ("embedder.onnx", lambda: pooled("MaxPool", kernel_shape=[240, 321], pads=[239, 320, 239, 320]),
                   "operator MaxPool"),
    "repeated rows": ("embedder.onnx", repeated_rows, "operator Gather"),
    "many products": ("embedder.onnx", large_products, "products for one input"),
    "shape from values": ("embedder.onnx", shape_from_values, "whose size is not known"),
    "claimed weights": ("embedder.onnx", claimed_weights, "fewer numbers than its shape says"),
    "many operators": ("embedder.onnx", many_operators, "has 9002 operators"),
    "text.json of a list": ("text/text.json", lambda: b"[1]", "wanted a JSON object"),
    "deep text.json": ("text/text.json", lambda: b"[" * 100_000, "text.json"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(GOOD, tmp_path / "bundle"))


def refuse(folder: Path, words: str) -> None:
    started = time.perf_counter()
    with pytest.raises(UnheardError) as caught:
        Embedder.load(folder, backend="onnxruntime")
    assert time.perf_counter() - started < 5
    message = str(caught.value)
    assert words in message
    assert message.isprintable()
    assert len(message) < 2000


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_of_other_types_or_beyond_bounds_is_refused(folder, kind):
    change, words = MANIFESTS[kind]
    write_bundle(folder, change, [])
    refuse(folder, words)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_the_export_would_not_write_is_refused(folder, kind):
    name, make, words = FILES[kind]
    (folder / name).write_bytes(make())
    write_bundle(folder, lambda fields: None, [])
    refuse(folder, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "manifest.json"),
        ('{"schema_version": 2, "a": ' * 50_000, "manifest.json"),
        ('{"schema_version": ' + "9" * 100_000 + "}", "manifest.json"),
        ('{"schema_version": 2, "scores": NaN}', "NaN"),
        (" " * 5_000_000, "bytes"),
    ],
    ids=["lists", "objects", "digits", "NaN", "size"],
)
def test_json_that_exhausts_a_parser_is_refused(folder, text, words):
    (folder / "manifest.json").write_text(text)
    refuse(folder, words)


@pytest.mark.parametrize("name", ["manifest.json", "README.md", "embedder.onnx"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_not_a_regular_file_is_refused(folder, name, kind):
    (folder / name).unlink()
    match kind:
        case "pipe":
            os.mkfifo(folder / name)
        case "device":
            (folder / name).symlink_to("/dev/zero")
        case _:
            (folder / name).mkdir()
    refuse(folder, name)


def test_files_that_the_manifest_does_not_list_are_not_read(folder):
    (folder / "engines").mkdir()
    (folder / "engines" / "tensorrt-10.13.0-sm89-fp32.engine").write_bytes(b"a program")
    os.mkfifo(folder / "frontend.onnx.data")
    assert Embedder.load(folder, backend="onnxruntime").backend == "onnxruntime"


@pytest.mark.parametrize("kind", ["inflating npz", "tensor doubled 12 times", "column times row", "wide border"])
def test_the_command_refuses_with_one_line_and_little_memory(folder, kind):
    """Those that would take most, refused before they do."""
    name, make, _ = FILES[kind]
    (folder / name).write_bytes(make())
    write_bundle(folder, lambda fields: None, [])
    code = """
import sys
from pathlib import Path
from serving.__main__ import main
code = main([sys.argv[1], "--port", "0", "--backend", "onnxruntime"])
print(next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
sys.exit(code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert int(done.stdout) / 1000 < 400  # a good bundle takes 180 MB
