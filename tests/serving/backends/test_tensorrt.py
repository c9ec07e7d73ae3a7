"""The native runtime: profiles, side-cars and the engine's host side; the engine itself where there is a GPU."""

import dataclasses
import importlib.util
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from export.tensorrt import main
from serving.backends.cuda_api import call_cuda, find_gpu, load_cuda
from serving.backends.engine_profiles import MOST_ROWS, Profile, parse_profiles, plan_calls
from serving.backends.engine_sidecar import (
    EngineTensor,
    Sidecar,
    check_sidecar,
    engine_name,
    read_sidecar,
    sidecar_path,
    this_platform,
    write_sidecar,
)
from serving.backends.onnxruntime import OnnxRuntime
from serving.backends.tensorrt import TensorRT, find_engine
from serving.bundle.bundle import open_bundle
from serving.bundle.bundle_files import ENGINES
from serving.bundle.manifest import write_manifest
from serving.errors import CudaError, EngineError, UsageError
from serving.files.file_record import record_of
from serving.probes import probe_windows
from tests.fake_gpu import FakeContext, FakeCuda, FakeEngine, FakeTensorRT
from tests.gpu import has_gpu, needs_gpu, no_gpu
from tests.small_bundle import write_small_bundle, write_untrained_bundle

ONE, WIDE = Profile(1, 1, 1), Profile(1, 8, 64)


@pytest.mark.parametrize(
    ("text", "profiles"),
    [("1:8:64", [WIDE]), ("1:1:1, 1:8:64", [ONE, WIDE]), ("4:4:4", [Profile(4, 4, 4)])],
)
def test_profiles_are_read_as_they_are_written(text, profiles):
    assert parse_profiles(text) == profiles
    assert parse_profiles(",".join(map(str, profiles))) == profiles


@pytest.mark.parametrize(
    "text",
    ["", "8", "1:8", "1:8:64:2", "0:1:2", "8:1:64", "1:64:8", "1:8:-64", "a:b:c", "1:8:6.4", "1:8:٦٤", "1:8:64,"],
)
def test_a_profile_that_is_none_is_named(text):
    with pytest.raises(UsageError, match=r"--batch: got .*least:best:most"):
        parse_profiles(text)


def test_a_profile_too_large_for_memory_or_named_twice_is_refused():
    with pytest.raises(UsageError, match=str(MOST_ROWS)):
        parse_profiles(f"1:8:{MOST_ROWS + 1}")
    with pytest.raises(UsageError, match="once"):
        parse_profiles("1:8:64,1:8:64")


@pytest.mark.parametrize("profiles", [[WIDE], [ONE, WIDE], [Profile(4, 8, 16)], [Profile(2, 2, 2), Profile(5, 7, 9)]])
def test_every_row_is_run_once_and_in_order_whatever_the_batch(profiles):
    for rows in range(150):
        calls = plan_calls(profiles, rows)
        assert [row for part in calls for row in range(part.start, part.stop)] == list(range(rows))
        for part in calls:
            profile = profiles[part.profile]
            assert part.stop - part.start <= part.rows
            assert profile.least <= part.rows <= profile.most


@pytest.mark.parametrize(
    ("rows", "calls"),
    [
        (1, [(0, 1)]),  # the profile tuned for one row
        (2, [(1, 2)]),
        (64, [(1, 64)]),
        (65, [(1, 64), (0, 1)]),
        (130, [(1, 64), (1, 64), (1, 2)]),
    ],
)
def test_a_batch_goes_to_the_profile_tuned_for_its_size_and_over_the_most_in_parts(rows, calls):
    assert [(part.profile, part.rows) for part in plan_calls([ONE, WIDE], rows)] == calls


def test_a_rest_below_every_profile_is_padded_as_little_as_possible():
    assert [(part.profile, part.rows) for part in plan_calls([Profile(8, 8, 8), Profile(4, 6, 8)], 3)] == [(1, 4)]


@pytest.fixture
def small(tmp_path):
    """A bundle of some bytes, and an engine in it with its side-car, for the fake TensorRT and GPU."""
    bundle = write_small_bundle(tmp_path / "bundle", {"fp32": b"some graph"})
    (bundle.folder / ENGINES).mkdir()
    engine = bundle.folder / ENGINES / engine_name("tensorrt", FakeTensorRT.__version__, "8.9", "fp32")
    engine.write_bytes(b"engine")
    sidecar = Sidecar(
        flavour="tensorrt",
        version=FakeTensorRT.__version__,
        compute_capability="8.9",
        platform=this_platform(),
        precision="fp32",
        profiles=(ONE, WIDE),
        input=EngineTensor("waveform", "float32", (-1, FakeTensorRT.SAMPLES)),
        output=EngineTensor("embedding", "float32", (-1, FakeTensorRT.SIZE)),
        onnx=bundle.manifest.files["embedder.onnx"],
        engine=record_of(engine),
        embedding_space=bundle.manifest.embedding_space,
        optimisation_level=3,
        workspace_mb=None,
        build_seconds=0.5,
    )
    write_sidecar(engine, sidecar)
    return listing(bundle, engine), engine, sidecar


def listing(bundle, engine):
    """The bundle with an engine in its manifest."""
    write_manifest(bundle.folder, bundle.manifest, [*bundle.manifest.files, f"{ENGINES}/{engine.name}"])
    return open_bundle(bundle.folder)


def test_a_side_car_is_read_as_it_was_written(small):
    _, engine, sidecar = small
    assert read_sidecar(engine) == sidecar
    assert engine.name == "tensorrt-10.13.0-sm89-fp32.engine"
    assert sidecar_path(engine).name == "tensorrt-10.13.0-sm89-fp32.json"


def test_an_engine_for_this_bundle_and_machine_is_let_through(small):
    bundle, engine, sidecar = small
    check_sidecar(engine, sidecar, bundle, "10.13.0", "8.9")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"version": "10.14.1"}, "version is 10.14.1, here 10.13.0"),
        ({"compute_capability": "12.0"}, "compute capability is 12.0, here 8.9"),
        ({"platform": "win32-amd64"}, "platform is win32-amd64"),
        ({"embedding_space": "0" * 64}, "embedding space is 000000000000, here"),
        ({"precision": "fp16"}, "onnx is sha256 .*, here missing"),
    ],
)
def test_an_engine_built_for_something_else_is_refused_and_the_difference_named(small, change, named):
    bundle, engine, sidecar = small
    with pytest.raises(EngineError, match=named) as refusal:
        check_sidecar(engine, dataclasses.replace(sidecar, **change), bundle, "10.13.0", "8.9")
    assert f"python -m export.tensorrt {bundle.folder} --flavour tensorrt" in str(refusal.value)
    assert "--batch 1:1:1,1:8:64 --overwrite" in str(refusal.value)


def test_every_difference_is_named_at_once(small):
    bundle, engine, sidecar = small
    with pytest.raises(EngineError) as refusal:
        check_sidecar(engine, sidecar, bundle, "11.0.0", "9.0")
    assert "version is 10.13.0, here 11.0.0" in str(refusal.value)
    assert "compute capability is 8.9, here 9.0" in str(refusal.value)


def test_an_engine_or_a_graph_that_changed_since_is_refused(small):
    bundle, engine, sidecar = small
    engine.write_bytes(b"enginf")
    with pytest.raises(EngineError, match=r"engine is sha256 .*, here sha256"):
        check_sidecar(engine, sidecar, bundle, "10.13.0", "8.9")
    engine.unlink()
    with pytest.raises(EngineError, match=r"engine is sha256 .*, here missing"):
        check_sidecar(engine, sidecar, bundle, "10.13.0", "8.9")
    other = write_small_bundle(bundle.folder.parent / "other", {"fp32": b"another graph"})
    with pytest.raises(EngineError, match=r"onnx is sha256 .*, here sha256"):
        check_sidecar(engine, sidecar, other, "10.13.0", "8.9")


@pytest.mark.parametrize("content", [None, "{bad", "[1]", "{}", '{"schema_version": 7}', '{"schema_version": 1}'])
def test_an_engine_without_a_readable_side_car_is_refused(small, content):
    _, engine, _ = small
    path = sidecar_path(engine)
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(EngineError, match=rf"{path.name}: .*build it again"):
        read_sidecar(engine)


def test_a_side_car_with_a_field_of_another_version_is_refused(small):
    _, engine, _ = small
    path = sidecar_path(engine)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"new_field": 1}))
    with pytest.raises(EngineError, match="new_field"):
        read_sidecar(engine)


@no_gpu
def test_without_a_driver_cuda_names_its_reason_and_the_way_out():
    with pytest.raises(CudaError, match=r"cudaErrorInsufficientDriver in cudaGetDeviceCount; install or update"):
        find_gpu()
    cuda = load_cuda()
    with pytest.raises(CudaError, match="cudaErrorInsufficientDriver in cudaMalloc"):
        call_cuda(cuda.cudaMalloc, 4)


@no_gpu
def test_an_engine_cannot_be_opened_without_a_gpu_and_says_why(small, monkeypatch):
    bundle, engine, _ = small
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT(FakeCuda(), (ONE, WIDE)))
    with pytest.raises(CudaError, match="cudaErrorInsufficientDriver"):
        TensorRT(engine, bundle)
    with pytest.raises(CudaError, match="cudaErrorInsufficientDriver"):
        find_engine(bundle, "fp32")


def test_a_runtime_that_is_not_installed_is_named_with_its_extra(small, monkeypatch):
    bundle, engine, sidecar = small
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'tensorrt is not installed; get it with: pip install -e "\.\[tensorrt\]"'):
        TensorRT(engine, bundle)
    write_sidecar(engine, dataclasses.replace(sidecar, flavour="tensorrt-rtx"))
    with pytest.raises(UsageError, match=r"\.\[tensorrt-rtx\]"):
        TensorRT(engine, bundle)


def test_type_stubs_alone_are_not_taken_for_tensorrt(small):
    """tensorrt-stubs leaves a folder `tensorrt` without code, which Python imports as an empty namespace."""
    spec = importlib.util.find_spec("tensorrt")
    if spec is not None and spec.origin is not None:
        pytest.skip("TensorRT itself is installed")
    bundle, engine, _ = small
    with pytest.raises(UsageError, match="tensorrt is not installed"):
        TensorRT(engine, bundle)


def test_a_bundle_without_an_engine_says_how_to_build_one(tmp_path):
    bundle = write_small_bundle(tmp_path / "bundle", {"fp32": b"some graph"})
    with pytest.raises(EngineError, match=f"holds no int8 engine; build one with: .* {bundle.folder} --precision int8"):
        find_engine(bundle, "int8")


# From here on the engine runs on a GPU made of host memory.


@pytest.fixture
def cuda(monkeypatch):
    if has_gpu():
        pytest.skip("the fake GPU checks its arguments with a CUDA library that finds no driver")
    fake = FakeCuda()
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake)
    return fake


@pytest.fixture
def trt(cuda, monkeypatch):
    fake = FakeTensorRT(cuda, (ONE, WIDE))
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    return fake


def waveforms(rows, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, FakeTensorRT.SAMPLES)).astype(np.float32)


def test_the_fake_has_no_name_that_nvidia_has_not():
    trt = pytest.importorskip("tensorrt_rtx")
    for fake, real in ((FakeEngine, trt.ICudaEngine), (FakeContext, trt.IExecutionContext)):
        assert {name for name in vars(fake) if not name.startswith("_")} <= set(dir(real))
    assert {"ILogger", "Runtime", "ExecutionContextAllocationStrategy"} <= set(dir(trt))
    # What only TensorRT-RTX has, and the type check therefore cannot see.
    assert trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    assert {"cuda_graph_strategy", "set_execution_context_allocation_strategy"} <= set(dir(trt.IRuntimeConfig))


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 2, 7, 64, 65, 150])
def test_any_batch_comes_back_row_by_row(small, trt, rows, graphs):
    bundle, engine, _ = small
    run = TensorRT(engine, bundle, workers=1, graphs=graphs)
    batch = waveforms(rows)
    for _ in range(2):  # the second time over what the first has left in its memory
        np.testing.assert_array_equal(run(batch), trt.embed(batch))
    assert run(batch).shape == (rows, FakeTensorRT.SIZE)


def test_memory_is_allocated_once_and_as_large_as_the_largest_profile(small, cuda, trt):
    bundle, engine, _ = small
    run = TensorRT(engine, bundle, workers=1, graphs=False)
    sizes = sorted(size for _, size in cuda.memory.values())
    whole_input, whole_output = 4 * 64 * FakeTensorRT.SAMPLES, 4 * 64 * FakeTensorRT.SIZE
    assert sizes == sorted([FakeTensorRT.SCRATCH, whole_output, whole_output, whole_input, whole_input])
    allocations = cuda.calls.count("cudaMalloc") + cuda.calls.count("cudaHostAlloc")
    for rows in (1, 64, 100):
        run(waveforms(rows))
    assert cuda.calls.count("cudaMalloc") + cuda.calls.count("cudaHostAlloc") == allocations


def test_memory_and_streams_are_given_back_with_the_runtime(small, cuda, trt):
    bundle, engine, _ = small
    run = TensorRT(engine, bundle, workers=2)
    run(waveforms(3))
    del run
    assert cuda.memory == {}
    assert cuda.streams == {}
    assert cuda.graphs == {}


def test_threads_share_the_workers_and_get_their_own_rows(small, cuda, trt):
    bundle, engine, _ = small
    trt.seconds = 0.002
    run = TensorRT(engine, bundle, workers=3, graphs=False)
    batches = [waveforms(1 + i % 5, seed=i) for i in range(60)]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(run, batches))
    for batch, result in zip(batches, results, strict=True):
        np.testing.assert_array_equal(result, trt.embed(batch))
    assert 2 <= trt.most_at_once <= 3


def test_graphs_are_kept_only_where_they_are_measured_to_pay(small, cuda, trt, monkeypatch):
    from serving.backends.tensorrt_worker import EngineWorker

    bundle, engine, _ = small
    # With its graph, one row takes half the time and more rows as long as without.
    seconds = {(0, 1): [2.0, 1.0], (1, 1): [2.0, 1.0], (1, 8): [2.0, 2.0], (1, 64): [9.0, 9.5]}
    monkeypatch.setattr(EngineWorker, "_seconds", lambda self, size: seconds[size].pop(0))
    run = TensorRT(engine, bundle, workers=2)
    assert run.graphs == [(0, 1), (1, 1)]
    launches = cuda.calls.count("cudaGraphLaunch")
    np.testing.assert_array_equal(run(waveforms(1)), trt.embed(waveforms(1)))
    assert cuda.calls.count("cudaGraphLaunch") == launches + 1
    np.testing.assert_array_equal(run(waveforms(8)), trt.embed(waveforms(8)))
    assert cuda.calls.count("cudaGraphLaunch") == launches + 1


def test_every_worker_replays_its_own_graph(small, cuda, trt, monkeypatch):
    from serving.backends import tensorrt_worker

    monkeypatch.setattr(tensorrt_worker, "GRAPH_PAYS", float("inf"))
    bundle, engine, _ = small
    trt.seconds = 0.001
    run = TensorRT(engine, bundle, workers=3)
    assert run.graphs == [(0, 1), (1, 1), (1, 8), (1, 64)]
    trt.most_at_once = 0
    launches = cuda.calls.count("cudaGraphLaunch")
    barrier = threading.Barrier(3)

    def one(seed):
        barrier.wait()
        return run(waveforms(8, seed))

    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(one, range(30)))
    for seed, result in enumerate(results):
        np.testing.assert_array_equal(result, trt.embed(waveforms(8, seed)))
    assert trt.most_at_once > 1
    assert cuda.calls.count("cudaGraphLaunch") == launches + 30


def test_an_engine_that_cannot_be_captured_runs_without_graphs(small, cuda, trt):
    bundle, engine, _ = small
    cuda.fail["cudaStreamEndCapture"] = "cudaErrorStreamCaptureUnsupported"
    run = TensorRT(engine, bundle, workers=1)
    assert run.graphs == []
    np.testing.assert_array_equal(run(waveforms(8)), trt.embed(waveforms(8)))


@pytest.mark.parametrize(
    ("function", "status"),
    [
        ("cudaMemcpyAsync", "cudaErrorInvalidValue"),
        ("cudaStreamSynchronize", "cudaErrorIllegalAddress"),
        ("cudaSetDevice", "cudaErrorDevicesUnavailable"),
    ],
)
def test_a_cuda_error_in_a_call_has_its_name_and_the_worker_comes_back(small, cuda, trt, function, status):
    bundle, engine, _ = small
    run = TensorRT(engine, bundle, workers=1, graphs=False)
    cuda.fail[function] = status
    with pytest.raises(CudaError, match=f"^{status} in {function}; "):
        run(waveforms(2))
    cuda.fail.clear()
    for stream in cuda.streams.values():
        stream.clear()
    np.testing.assert_array_equal(run(waveforms(2)), trt.embed(waveforms(2)))  # would hang without its worker


def test_too_little_memory_says_what_to_take_less_of(small, cuda, trt):
    bundle, engine, _ = small
    cuda.fail["cudaMalloc"] = "cudaErrorMemoryAllocation"
    with pytest.raises(CudaError, match="cudaErrorMemoryAllocation in cudaMalloc; take fewer workers"):
        TensorRT(engine, bundle)


def test_an_engine_that_tensorrt_refuses_says_what_tensorrt_said(small, trt):
    bundle, engine, sidecar = small
    engine.write_bytes(b"other bytes")
    write_sidecar(engine, dataclasses.replace(sidecar, engine=record_of(engine)))
    with pytest.raises(EngineError, match=r"is not the one that the bundle's manifest lists"):
        TensorRT(engine, bundle)
    bundle = listing(bundle, engine)
    with pytest.raises(EngineError, match=r"TensorRT cannot open it \(no magic tag\)"):
        TensorRT(engine, bundle)


def test_an_engine_with_other_tensors_than_its_side_car_says_is_refused(small, trt):
    bundle, engine, sidecar = small
    write_sidecar(engine, dataclasses.replace(sidecar, output=EngineTensor("embedding", "float32", (-1, 5))))
    with pytest.raises(EngineError, match=r"embedding is \(-1, 4\), its side-car says \(-1, 5\)"):
        TensorRT(engine, bundle)


def test_an_engine_for_another_gpu_is_refused_before_it_is_opened(small, trt):
    bundle, engine, sidecar = small
    write_sidecar(engine, dataclasses.replace(sidecar, compute_capability="8.6"))
    with pytest.raises(EngineError, match=r"compute capability is 8.6, here 8.9"):
        TensorRT(engine, bundle)


def test_the_engine_that_fits_is_found_among_others(small, trt):
    bundle, engine, sidecar = small
    other = engine.with_name("tensorrt-10.12.0-sm89-fp32.engine")
    other.write_bytes(b"engine")
    write_sidecar(other, dataclasses.replace(sidecar, version="10.12.0"))
    engine.with_name("a-broken-fp32.engine").write_bytes(b"")
    assert find_engine(bundle, "fp32") == engine
    engine.unlink()
    with pytest.raises(EngineError, match=r"a-broken-fp32.json: cannot be read.*version is 10.12.0, here 10.13.0"):
        find_engine(bundle, "fp32")


def test_it_says_what_runs_and_where(small, trt):
    bundle, engine, _ = small
    run = TensorRT(engine, bundle, workers=1)
    assert (run.name, run.version) == ("tensorrt", "tensorrt 10.13.0")
    assert run.providers == ["Fake GPU, compute capability 8.9"]


@pytest.fixture(scope="module")
def gpu_engine(tmp_path_factory):
    """A bundle, its engine for the GPU of this machine, probes, and what ONNX Runtime on the CPU makes of them."""
    folder = tmp_path_factory.mktemp("gpu") / "bundle"
    bundle = write_untrained_bundle(folder, "yamnet-compact", ["fp32"])
    assert main([str(folder), "--batch", "1:1:1,1:8:16"]) == 0
    _, windows = probe_windows(bundle.manifest.window)
    return bundle, find_engine(bundle, "fp32"), windows, OnnxRuntime(bundle.model("fp32"), 2, ["cpu"])(windows)


def assert_same(rows, expected):
    np.testing.assert_allclose(rows, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_the_engine_embeds_like_onnx_runtime(gpu_engine):
    bundle, engine, windows, expected = gpu_engine
    for graphs in (False, True):
        run = TensorRT(engine, bundle, graphs=graphs)
        for rows in (1, 2, len(windows)):
            assert_same(run(windows[:rows]), expected[:rows])
        assert_same(run(np.tile(windows, (5, 1))), np.tile(expected, (5, 1)))


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_threads_get_their_own_rows(gpu_engine):
    bundle, engine, windows, expected = gpu_engine
    run = TensorRT(engine, bundle, workers=3)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda i: run(windows[i % len(windows)][None]), range(200)))
    for i, result in enumerate(results):
        assert_same(result[0], expected[i % len(windows)])


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_an_engine_for_another_one_is_refused(gpu_engine):
    bundle, engine, _, _ = gpu_engine
    foreign = engine.with_name(engine.name.replace("fp32", "foreign-fp32"))
    foreign.write_bytes(engine.read_bytes())
    write_sidecar(foreign, dataclasses.replace(read_sidecar(engine), compute_capability="5.0"))
    with pytest.raises(EngineError, match=r"compute capability is 5.0"):
        TensorRT(foreign, bundle)
