"""TensorRT engines are really built, without a GPU, and hold what their side-cars say."""

import contextlib
import dataclasses
import importlib.util
import io
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import engine as builder
from export.tensorrt import main
from serving.backends.engine_profiles import Profile
from serving.backends.engine_sidecar import EngineTensor, read_sidecar, this_platform
from serving.bundle.bundle import open_bundle
from serving.bundle.bundle_files import PRECISIONS
from serving.bundle.manifest import parse_manifest, write_manifest
from serving.errors import EngineError
from serving.files.file_record import record_of
from tests.fake_gpu import FakeCuda, FakeTensorRT
from tests.gpu import no_gpu
from tests.small_bundle import WINDOWS, tiny_graph, write_small_bundle, write_untrained_bundle

tensorrt_rtx = pytest.importorskip("tensorrt_rtx", reason='no TensorRT-RTX: pip install -e ".[tensorrt-rtx]"')

VERSION = tensorrt_rtx.__version__
FOR_ADA = ("--flavour", "tensorrt-rtx", "--compute-capability", "8.9")
# Rows that occur nowhere else in an engine.
PROFILES = (Profile(1, 1, 1), Profile(3, 11, 61))


def one_line(capsys, code: int, *parts: str) -> str:
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert (code, len(lines), captured.out) == (2, 1, ""), captured.err
    for part in parts:
        assert part in lines[0]
    return captured.err


@pytest.fixture(scope="module", params=list(WINDOWS))
def built(request, tmp_path_factory):
    """One network's bundle with engines in all three precisions, built by the command; its JSON line."""
    folder = tmp_path_factory.mktemp("engines") / request.param
    write_untrained_bundle(folder, request.param, list(PRECISIONS))
    batch = ",".join(map(str, PROFILES))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main([str(folder), *FOR_ADA, "--precision", "fp32,fp16,int8", "--batch", batch]) == 0
    yield open_bundle(folder), json.loads(out.getvalue().splitlines()[-1])
    shutil.rmtree(folder)  # vggish and its engines take a gigabyte


def test_engines_of_all_precisions_are_built_with_their_side_cars(built):
    bundle, report = built
    assert (report["flavour"], report["version"], report["compute_capability"]) == ("tensorrt-rtx", VERSION, "8.9")
    assert [entry["precision"] for entry in report["engines"]] == ["fp32", "fp16", "int8"]
    for entry in report["engines"]:
        engine, precision = Path(entry["path"]), entry["precision"]
        assert engine == bundle.folder / "engines" / f"tensorrt-rtx-{VERSION}-sm89-{precision}.engine"
        sidecar = read_sidecar(engine)
        assert (sidecar.flavour, sidecar.version, sidecar.precision) == ("tensorrt-rtx", VERSION, precision)
        assert (sidecar.compute_capability, sidecar.platform) == ("8.9", this_platform())
        assert sidecar.profiles == PROFILES
        assert sidecar.input == EngineTensor("waveform", "float32", (-1, WINDOWS[bundle.manifest.network]))
        assert sidecar.output == EngineTensor("embedding", "float32", (-1, 128))
        assert sidecar.onnx == bundle.manifest.files[PRECISIONS[precision]]
        assert sidecar.engine == record_of(engine)
        assert sidecar.embedding_space == bundle.manifest.embedding_space
        assert (entry["bytes"], entry["onnx_bytes"]) == (sidecar.engine.size, sidecar.onnx.size)
        assert 0 < entry["build_seconds"] == sidecar.build_seconds


def test_engines_hold_the_tensors_and_the_shapes_of_their_profiles(built):
    """The engine cannot be opened without a GPU, but it stores each profile as rows and samples, 64 bits each."""
    bundle, report = built
    samples = WINDOWS[bundle.manifest.network]
    for entry in report["engines"]:
        content = Path(entry["path"]).read_bytes()
        assert b"waveform" in content
        assert b"embedding" in content
        for profile in PROFILES:
            for rows in dataclasses.astuple(profile):
                assert struct.pack("<qq", rows, samples) in content, rows
        assert struct.pack("<qq", 64, samples) not in content


def test_an_engine_is_as_large_as_the_weights_of_its_file_and_some_code(built):
    """The weights stay in the type that the ONNX file gives them. For INT8 each profile brings kernels of its own."""
    _, report = built
    for entry in report["engines"]:
        assert entry["onnx_bytes"] < entry["bytes"] < entry["onnx_bytes"] + 7_000_000 * len(PROFILES)


def test_the_bundle_stays_whole_with_its_engines(built):
    bundle, _ = built
    assert open_bundle(bundle.folder).manifest == bundle.manifest
    names = {path.name for path in (bundle.folder / "engines").iterdir()}
    assert len(names) == 6
    assert not [name for name in names if name.startswith(".")]


@pytest.fixture
def tiny(tmp_path):
    """The folder of a bundle with a tiny model."""
    folder = tmp_path / "tiny"
    write_small_bundle(folder, {"fp32": tiny_graph().SerializeToString()})
    return folder


@pytest.mark.parametrize("capability", ["8.6", "8.9", "12.0"])
def test_an_engine_is_built_for_the_compute_capability_asked_for(tiny, capability):
    assert main([str(tiny), "--flavour", "tensorrt-rtx", "--compute-capability", capability]) == 0
    [engine] = (tiny / "engines").glob("*.engine")
    assert engine.name == f"tensorrt-rtx-{VERSION}-sm{capability.replace('.', '')}-fp32.engine"
    assert read_sidecar(engine).compute_capability == capability
    assert read_sidecar(engine).profiles == (Profile(1, 8, 64),)


def test_levels_and_limits_reach_the_builder_and_tf32_is_cleared(tiny, monkeypatch):
    seen = []
    real = builder._configure

    def configure(target, built, source):
        seen.append(real(target, built, source))
        return seen[-1]

    monkeypatch.setattr(builder, "_configure", configure)
    assert main([str(tiny), *FOR_ADA, "--optimisation-level", "1", "--workspace-mb", "100"]) == 0
    [config] = seen
    assert config.builder_optimization_level == 1
    assert config.get_memory_pool_limit(tensorrt_rtx.MemoryPoolType.WORKSPACE) == 100_000_000
    assert not config.get_flag(tensorrt_rtx.BuilderFlag.TF32)
    [engine] = (tiny / "engines").glob("*.engine")
    assert (read_sidecar(engine).optimisation_level, read_sidecar(engine).workspace_mb) == (1, 100)


def test_an_engine_is_kept_unless_it_may_be_built_again(tiny, capsys):
    assert main([str(tiny), *FOR_ADA]) == 0
    capsys.readouterr()
    one_line(capsys, main([str(tiny), *FOR_ADA, "--batch", "1:2:4"]), "exists already", "--overwrite")
    [engine] = (tiny / "engines").glob("*.engine")
    assert read_sidecar(engine).profiles == (Profile(1, 8, 64),)
    assert main([str(tiny), *FOR_ADA, "--batch", "1:2:4", "--overwrite"]) == 0
    assert read_sidecar(engine).profiles == (Profile(1, 2, 4),)
    assert read_sidecar(engine).engine == record_of(engine)


@pytest.mark.parametrize("overwrite", [False, True])
def test_after_a_failed_build_the_bundle_opens_with_its_finished_engines(tmp_path, capsys, monkeypatch, overwrite):
    model = tiny_graph().SerializeToString()
    folder = write_small_bundle(tmp_path / "bundle", {"fp32": model, "fp16": model}).folder
    command, again = [str(folder), *FOR_ADA], ["--overwrite", "--batch", "1:2:4"] if overwrite else []
    if overwrite:
        assert main([*command, "--precision", "fp32,fp16"]) == 0
        capsys.readouterr()

    def build(target, bundle, precision, source, path):
        if precision == "fp16":
            raise EngineError("out of memory")
        return builder.build_engine(target, bundle, precision, source, path)

    with monkeypatch.context() as patched:
        patched.setattr("export.tensorrt.build_engine", build)
        one_line(capsys, main([*command, *again, "--precision", "fp32,fp16"]), "out of memory")
    listed = {name for name in open_bundle(folder).manifest.files if name.endswith(".engine")}
    assert len(listed) == (2 if overwrite else 1)  # the old FP16 engine is kept
    [engine] = (folder / "engines").glob("*-fp32.engine")
    assert read_sidecar(engine).profiles == (Profile(1, 2, 4) if overwrite else Profile(1, 8, 64),)
    assert main([*command, *again, "--precision", "fp16"]) == 0
    assert {path.name for path in (folder / "engines").iterdir()} == {
        Path(name).name for name in open_bundle(folder).manifest.files if name.startswith("engines/")
    }


def test_engines_that_are_built_at_a_time_are_all_listed(tiny):
    """Each command begins with the same manifest, and ends while the other still builds."""
    capabilities = ("8.6", "8.9", "12.0")
    command = [sys.executable, "-m", "export.tensorrt", str(tiny), "--flavour", "tensorrt-rtx", "--compute-capability"]
    for build in [subprocess.Popen([*command, each]) for each in capabilities]:
        assert build.wait(300) == 0
    assert {name for name in open_bundle(tiny).manifest.files if name.endswith(".engine")} == {
        f"engines/tensorrt-rtx-{VERSION}-sm{each.replace('.', '')}-fp32.engine" for each in capabilities
    }


def test_what_was_added_during_a_build_stays_listed_and_the_same_engine_is_not_replaced(tiny, capsys, monkeypatch):
    def build(target, bundle, precision, source, path):
        with monkeypatch.context() as inner:
            inner.setattr("export.tensorrt.build_engine", builder.build_engine)
            assert main([str(tiny), "--flavour", "tensorrt-rtx", "--compute-capability", others.pop()]) == 0
        return builder.build_engine(target, bundle, precision, source, path)

    monkeypatch.setattr("export.tensorrt.build_engine", build)
    others = ["8.6"]
    assert main([str(tiny), *FOR_ADA]) == 0
    assert len([name for name in open_bundle(tiny).manifest.files if name.endswith(".engine")]) == 2
    shutil.rmtree(tiny / "engines")
    manifest = parse_manifest(json.loads((tiny / "manifest.json").read_text()))
    write_manifest(tiny, manifest, [name for name in manifest.files if not name.startswith("engines/")])
    others = ["8.9"]
    capsys.readouterr()
    assert main([str(tiny), *FOR_ADA]) == 2
    assert "exists already; give --overwrite" in capsys.readouterr().err
    open_bundle(tiny)


def test_an_engine_that_a_killed_build_left_unlisted_is_in_nobodys_way(tiny):
    assert main([str(tiny), *FOR_ADA]) == 0
    bundle = open_bundle(tiny)
    write_manifest(tiny, bundle.manifest, [name for name in bundle.manifest.files if not name.startswith("engines/")])
    assert main([str(tiny), *FOR_ADA]) == 0
    assert [name for name in open_bundle(tiny).manifest.files if name.endswith(".engine")]


def model_with(nodes, output=(TensorProto.FLOAT, ["batch", 4]), weights=()) -> bytes:
    """An ONNX file of these nodes: waveform [batch, 4] -> embedding."""
    graph = helper.make_graph(
        nodes,
        "faulty",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("embedding", *output)],
        weights,
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("elsewhere", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10).SerializeToString()


def test_every_node_that_tensorrt_cannot_read_is_named(tmp_path, capsys):
    nodes = [
        helper.make_node("Mystery", ["waveform"], ["a"], "first mystery", domain="elsewhere"),
        helper.make_node("Enigma", ["a"], ["embedding"], "second mystery", domain="elsewhere"),
    ]
    bundle = write_small_bundle(tmp_path / "bundle", {"fp32": model_with(nodes)})
    err = one_line(capsys, main([str(bundle.folder), *FOR_ADA]), "embedder.onnx", "first mystery")
    assert "node 0, Mystery first mystery" in err
    assert list((bundle.folder / "engines").iterdir()) == []


@pytest.mark.parametrize(
    ("node", "output", "parts"),
    [
        ("Cast", (TensorProto.FLOAT16, ["batch", 4]), ["embedding is half"]),
        ("Shape", (TensorProto.INT64, [2]), ["embedding is int64 [2]"]),
    ],
)
def test_an_output_that_the_runtime_could_not_read_is_refused(tmp_path, capsys, node, output, parts):
    attributes = {"to": TensorProto.FLOAT16} if node == "Cast" else {}
    model = model_with([helper.make_node(node, ["waveform"], ["embedding"], **attributes)], output)
    bundle = write_small_bundle(tmp_path / "bundle", {"fp32": model})
    one_line(capsys, main([str(bundle.folder), *FOR_ADA]), *parts, "wanted float")
    assert list((bundle.folder / "engines").iterdir()) == []


def test_what_the_builder_refuses_is_said_in_its_own_words(tmp_path, capsys):
    """The parser takes a matrix product for every GPU; for Turing there is no FP32 kernel of it."""
    weights = numpy_helper.from_array(np.ones((4, 4), np.float32), "weights")
    model = model_with([helper.make_node("MatMul", ["waveform", "weights"], ["embedding"])], weights=[weights])
    bundle = write_small_bundle(tmp_path / "bundle", {"fp32": model})
    turing = ["--flavour", "tensorrt-rtx", "--compute-capability", "7.5"]
    one_line(capsys, main([str(bundle.folder), *turing]), "tensorrt-rtx cannot build it", "FP32 GEMM is not supported")
    limited = [*turing, "--workspace-mb", "100"]
    one_line(capsys, main([str(bundle.folder), *limited]), "a larger --workspace-mb may help")
    assert list((bundle.folder / "engines").iterdir()) == []
    assert main([str(bundle.folder), *FOR_ADA]) == 0


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("--flavour tensorrt-rt", ["--flavour", "tensorrt or tensorrt-rtx"]),
        ("--precision fp64", ["--precision", "fp32, fp16, int8"]),
        ("--precision fp32,fp32", ["--precision", "at most once"]),
        ("--precision int8", ["no int8 model", "--precision"]),
        ("--batch 8", ["--batch", "'8'", "1:8:64"]),
        ("--compute-capability 9.0", ["got 9.0", "8.6, 8.9", "--flavour tensorrt"]),
        ("--compute-capability 89", ["got 89"]),
        ("--optimisation-level 9", ["--optimisation-level", "0 to 5"]),
        ("--workspace-mb 0", ["--workspace-mb", "at least 1"]),
        ("--timing-cache t.cache", ["--timing-cache", "leave it out"]),
    ],
)
def test_wrong_flags_are_one_line_and_nothing_is_built(tiny, capsys, flags, parts):
    one_line(capsys, main([str(tiny), *FOR_ADA, *flags.split()]), *parts)
    assert not list(tiny.rglob("*.engine"))


@no_gpu
def test_without_a_gpu_the_compute_capability_is_asked_for(tiny, capsys):
    code = main([str(tiny), "--flavour", "tensorrt-rtx"])
    one_line(capsys, code, "cudaErrorInsufficientDriver", "--compute-capability 8.9")
    assert not list(tiny.rglob("*.engine"))


@no_gpu
def test_tensorrt_itself_builds_only_where_its_gpu_is(tiny, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT(FakeCuda(), ()))
    code = main([str(tiny), "--flavour", "tensorrt", "--compute-capability", "8.9"])
    one_line(capsys, code, "cudaErrorInsufficientDriver", "build where the GPU is", "--flavour tensorrt-rtx")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", FakeCuda())
    code = main([str(tiny), "--flavour", "tensorrt", "--compute-capability", "8.6"])
    one_line(capsys, code, "got 8.6", "this machine's GPU, which has 8.9")


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_the_timing_cache_is_written_and_read_again(tiny, tmp_path):
    """Of flavour tensorrt; RTX has the same calls, and keeps next to nothing in it."""
    path = tmp_path / "caches" / "timing.cache"
    target = builder.Target("tensorrt-rtx", VERSION, "8.9", [Profile(1, 8, 64)], 3, None, path)
    bundle = open_bundle(tiny)
    sizes = []
    for name in ("first.engine", "second.engine"):
        builder.build_engine(target, bundle, "fp32", bundle.model("fp32"), tmp_path / name)
        sizes.append(path.stat().st_size)
    assert sizes[0] > 0
    path.write_bytes(b"no timing cache")
    builder.build_engine(target, bundle, "fp32", bundle.model("fp32"), tmp_path / "third.engine")
    assert path.stat().st_size == sizes[0]


@pytest.mark.parametrize(
    ("flags", "missing", "parts"),
    [
        ("--flavour tensorrt", ["tensorrt"], ["tensorrt is not installed", 'pip install -e ".[tensorrt]"']),
        ("--flavour tensorrt-rtx", ["tensorrt_rtx"], ['pip install -e ".[tensorrt-rtx]"']),
        ("", ["tensorrt", "tensorrt_rtx"], [".[tensorrt]", ".[tensorrt-rtx]"]),
    ],
)
def test_where_tensorrt_is_not_installed_the_command_says_how_to_get_it(
    tiny, capsys, monkeypatch, flags, missing, parts
):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find_spec(name))
    one_line(capsys, main([str(tiny), *flags.split()]), *parts)


def test_the_flavour_that_is_installed_is_the_default(tiny, monkeypatch):
    monkeypatch.setattr("export.tensorrt.installed_flavours", lambda: ["tensorrt-rtx"])
    assert main([str(tiny), "--compute-capability", "8.9"]) == 0
    assert [engine.name for engine in (tiny / "engines").glob("tensorrt-rtx-*.engine")]


def test_a_folder_that_cannot_be_written_is_named(tiny, capsys):
    (tiny / "engines").write_text("a file in the way")
    one_line(capsys, main([str(tiny), *FOR_ADA]), "engines", "cannot be read or written")
