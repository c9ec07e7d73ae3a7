"""The CUDA provider runs batches of a few sizes as CUDA graphs, and falls back where one does not work."""

import gc
import logging
import os
import threading
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.backends import onnxruntime as backend
from serving.backends.cuda_api import CaptureGate
from serving.backends.cuda_batches import CudaSettings, FixedBatches, Tensor, plan_parts
from serving.backends.onnxruntime import OnnxRuntime
from serving.bundle.bundle import open_bundle
from serving.bundle.onnx_precision import has_half_weights
from serving.errors import UsageError
from tests.fake_gpu import FakeCuda
from tests.gpu import needs_gpu
from tests.small_bundle import write_untrained_bundle

SAMPLES, SIZE = 16, 4
SETTINGS = CudaSettings(sizes=(1, 4, 8), slots=3)


def embed(batch):
    return batch.reshape(len(batch), SIZE, -1).sum(2)


class FakeSession:
    """A session of the CUDA provider: from its third run on, it replays what it captured."""

    def __init__(self, cuda, rows, graphs, wrong=False):
        self.cuda, self.rows, self.graphs, self.wrong = cuda, rows, graphs, wrong
        self.memory, self.runs, self.thread = {}, 0, None

    def io_binding(self):
        def bind(name, device, index, dtype, shape, address):
            assert (device, index, dtype, shape[0]) == ("cuda", 0, np.float32, self.rows)
            self.cuda.inside(address, 4 * int(np.prod(shape)))
            self.memory[name] = (address, shape)

        return SimpleNamespace(bind_input=bind, bind_output=bind)

    def run_with_iobinding(self, binding):
        self.thread = self.thread or threading.get_ident()
        assert self.thread == threading.get_ident(), "a captured graph belongs to the thread that captured it"
        self.runs += 1
        source = self.cuda.floats(*self.memory["waveform"])
        self.cuda.floats(*self.memory["embedding"])[:] = embed(source) * (2 if self.wrong and self.graphs else 1)


class Opened:
    """Opens fake sessions, and keeps them."""

    def __init__(self, cuda, no_graphs=False, nothing=False, wrong=False):
        self.cuda, self.no_graphs, self.nothing, self.wrong = cuda, no_graphs, nothing, wrong
        self.sessions = []

    def __call__(self, rows, graphs):
        if self.nothing or (graphs and self.no_graphs):
            raise RuntimeError("This session cannot use the graph capture feature")
        self.sessions.append(FakeSession(self.cuda, rows, graphs, self.wrong))
        return self.sessions[-1]

    @property
    def sizes(self):
        return sorted(session.rows for session in self.sessions)


def batches_of(opened, settings=SETTINGS):
    plain = []
    source, target = Tensor("waveform", (SAMPLES,)), Tensor("embedding", (SIZE,))

    def run_plainly(batch):
        plain.append(len(batch))
        return embed(batch)

    return FixedBatches(opened.cuda, opened, run_plainly, source, target, settings), plain


def windows(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, SAMPLES)).astype(np.float32)


@pytest.mark.parametrize("rows", range(1, 30))
def test_a_batch_of_any_size_gives_the_rows_of_the_plain_network(rows):
    run, _ = batches_of(Opened(FakeCuda()))
    for seed in range(2):  # the second time over what the first has left
        np.testing.assert_allclose(run(windows(rows, seed)), embed(windows(rows, seed)), rtol=1e-6)


def test_a_size_is_opened_when_it_is_needed_and_its_kernels_are_captured():
    opened = Opened(FakeCuda())
    run, plain = batches_of(opened)
    run(windows(1))
    assert opened.sizes == [1]
    run(windows(3))
    run(windows(16))
    assert opened.sizes == [1, 4, 8, 8]
    assert all(session.graphs for session in opened.sessions)
    compared = len(plain)
    run(windows(20))
    assert len(plain) == compared, "after the comparison at the opening nothing runs without a fixed batch"


def test_warming_up_opens_all_sizes_and_all_slots_of_the_largest():
    opened = Opened(FakeCuda())
    run, _ = batches_of(opened)
    run.open_all()
    assert opened.sizes == [1, 4, 8, 8, 8]


def test_many_threads_get_their_own_rows():
    run, _ = batches_of(Opened(FakeCuda()))
    wrong = []

    def work(seed):
        batch = windows(1 + seed % 20, seed)
        if not np.allclose(run(batch), embed(batch), rtol=1e-5):
            wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_cannot_be_captured_runs_without_a_graph_and_prints_nothing(capfd):
    opened = Opened(FakeCuda(), no_graphs=True)
    run, plain = batches_of(opened)
    np.testing.assert_allclose(run(windows(8)), embed(windows(8)), rtol=1e-6)
    assert [session.graphs for session in opened.sessions] == [False]
    assert plain == [8], "only to compare"
    assert "graph capture" in run.refused[8]
    assert capfd.readouterr() == ("", "")


def test_a_graph_that_computes_other_rows_is_not_used(caplog):
    caplog.set_level(logging.INFO)
    opened = Opened(FakeCuda(), wrong=True)
    run, _ = batches_of(opened)
    np.testing.assert_allclose(run(windows(8)), embed(windows(8)), rtol=1e-6)
    assert "off by" in run.refused[8]
    assert not opened.sessions[-1].graphs


def test_a_size_that_cannot_be_opened_is_left_to_the_plain_network():
    run, plain = batches_of(Opened(FakeCuda(), nothing=True))
    for _ in range(3):
        np.testing.assert_allclose(run(windows(8)), embed(windows(8)), rtol=1e-6)
    assert plain == [8] * 4, "once to compare"


def test_a_gpu_without_memory_for_a_size_leaves_it_to_the_plain_network():
    cuda = FakeCuda()
    cuda.fail["cudaHostAlloc"] = "cudaErrorMemoryAllocation"
    run, plain = batches_of(Opened(cuda))
    np.testing.assert_allclose(run(windows(2)), embed(windows(2)), rtol=1e-6)
    assert "cudaErrorMemoryAllocation" in run.refused[4]
    assert plain == [2 + 2, 2]


def test_an_error_of_a_run_reaches_the_caller_and_the_slot_is_free_again():
    cuda = FakeCuda()
    run, _ = batches_of(Opened(cuda))
    run(windows(1))
    cuda.fail["cudaStreamSynchronize"] = "cudaErrorIllegalAddress"
    with pytest.raises(Exception, match="cudaErrorIllegalAddress"):
        run(windows(1))
    cuda.fail.clear()
    np.testing.assert_allclose(run(windows(1)), embed(windows(1)), rtol=1e-6)


def test_all_memory_of_the_gpu_is_given_back():
    cuda = FakeCuda()
    run, _ = batches_of(Opened(cuda))
    run(windows(20))
    del run

    gc.collect()
    assert not cuda.memory
    assert not cuda.streams


def test_nothing_else_runs_while_a_graph_is_captured():
    gate, inside, seen = CaptureGate(), [], []

    def work(kind, hold):
        with hold():
            inside.append(kind)
            seen.append(tuple(inside))
            threading.Event().wait(0.002)
            inside.remove(kind)

    threads = [
        threading.Thread(target=work, args=("capture", gate.alone) if i % 4 == 0 else ("run", gate.beside))
        for i in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 40
    assert all(set(kinds) == {"run"} or kinds == ("capture",) for kinds in seen)
    assert any(len(kinds) > 1 for kinds in seen), "runs do not exclude each other"


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [(1, [1]), (2, [4]), (8, [8]), (9, [8, 1]), (29, [8, 8, 8, 8]), (26, [8, 8, 8, 4])],
)
def test_a_batch_is_split_into_the_largest_size_and_what_takes_the_rest(rows, wanted):
    parts = plan_parts(SETTINGS.sizes, rows)
    assert [part.size for part in parts] == wanted
    assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
    assert (parts[0].start, parts[-1].stop) == (0, rows)


def write_adder(path, dtype):
    """waveform [batch, 4] -> embedding [batch, 4], with a weight of this type."""
    weight = numpy_helper.from_array(np.ones(4, dtype), "weight")
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["weight"], ["weight32"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["waveform", "weight32"], ["embedding"]),
        ],
        "adder",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 4])],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.mark.parametrize(("dtype", "tensor_cores"), [(np.float32, "0"), (np.float16, "1")])
def test_fp16_may_use_tensor_cores_and_fp32_stays_fp32(tmp_path, monkeypatch, dtype, tensor_cores):
    """Without tensor cores cuDNN has no plan for many FP16 convolutions: an error line and a new search for each."""
    model = write_adder(tmp_path / "adder.onnx", dtype)
    assert has_half_weights(model.read_bytes()) == has_half_weights(str(model)) == (dtype == np.float16)
    asked = []
    real = onnxruntime.InferenceSession

    def session(path, options, providers, **others):
        asked.extend(each for each in providers if each[0] == "CUDAExecutionProvider")
        return real(path, options, providers=["CPUExecutionProvider"], **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(backend, "missing_for", lambda provider: None)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    OnnxRuntime(model, 1, ["cuda", "cpu"])
    assert asked[0][1]["use_tf32"] == tensor_cores
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"


class CudaSession:
    """A real session on the CPU that passes for one on a GPU. The fake GPU's memory, which is bound, is the host's."""

    opened = ()

    def __init__(self, model, options, providers, **others):
        CudaSession.opened += ((options, providers),)
        self._session = REAL_SESSION(model, options, providers=["CPUExecutionProvider"], **others)

    def get_providers(self):
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def io_binding(self):
        binding = self._session.io_binding()

        def on_cpu(bind):
            return lambda name, device, *rest: bind(name, {"cuda": "cpu"}[device], *rest)

        binding.bind_input, binding.bind_output = on_cpu(binding.bind_input), on_cpu(binding.bind_output)
        return binding

    def __getattr__(self, name):
        return getattr(self._session, name)


REAL_SESSION = onnxruntime.InferenceSession


@pytest.fixture
def fake_gpu(monkeypatch) -> FakeCuda:
    """ONNX Runtime with a CUDA provider that works, and its CUDA."""
    cuda = FakeCuda()
    CudaSession.opened = ()
    monkeypatch.setattr(onnxruntime, "InferenceSession", CudaSession)
    monkeypatch.setattr(backend, "missing_for", lambda provider: None)
    monkeypatch.setattr(backend, "load_cuda", lambda: cuda)
    return cuda


def test_a_bundles_model_runs_in_fixed_batches_on_the_cuda_provider(bundle_folder, fake_gpu, capfd):
    bundle = open_bundle(bundle_folder)
    run = OnnxRuntime(bundle.model("fp32"), 1, ["cuda"], strict=True)
    waves = 0.1 * np.random.default_rng(0).standard_normal((6, bundle.manifest.window.samples)).astype(np.float32)
    cpu = REAL_SESSION(bundle.model("fp32"), providers=["CPUExecutionProvider"])
    expected = cpu.run(None, {cpu.get_inputs()[0].name: waves})[0]
    np.testing.assert_allclose(run(waves), expected, rtol=0, atol=1e-5)
    assert run.splits_batches
    assert not run.batches.refused
    options = dict(CudaSession.opened[1][1])["CUDAExecutionProvider"]
    assert options["enable_cuda_graph"] == "1"
    assert "cudaMemcpyAsync" in fake_gpu.calls
    assert capfd.readouterr().err == ""


def test_without_cuda_python_each_batch_runs_as_it_comes(bundle_folder, fake_gpu, monkeypatch):
    def not_installed():
        raise UsageError("cuda-python is not installed")

    monkeypatch.setattr(backend, "load_cuda", not_installed)
    bundle = open_bundle(bundle_folder)
    run = OnnxRuntime(bundle.model("fp32"), 1, ["cuda"], strict=True)
    assert not run.splits_batches
    assert run(np.zeros((3, bundle.manifest.window.samples), np.float32)).shape == (3, 128)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_captured_batches_equal_the_cpu_on_a_gpu(tmp_path, capfd, precision):
    bundle = write_untrained_bundle(tmp_path / "bundle", "yamnet-compact", ["fp32", "fp16"])
    model = bundle.model(precision)
    samples = bundle.manifest.window.samples
    waves = 0.1 * np.random.default_rng(0).standard_normal((70, samples)).astype(np.float32)
    cuda, cpu = OnnxRuntime(model, 1, ["cuda"], strict=True), OnnxRuntime(bundle.model("fp32"), 1, ["cpu"])
    assert cuda.batches is not None
    expected = np.concatenate([cpu(part) for part in np.array_split(waves, 10)])
    # FP16 keeps 11 bits of each product; the bound is that of the backend choice.
    tolerance = {"fp32": 1e-4, "fp16": 0.02}[precision] * np.linalg.norm(expected, axis=1).max()
    for rows in (1, 2, 5, 32, 70):
        assert np.abs(cuda(waves[:rows]) - expected[:rows]).max() < tolerance
    assert not cuda.batches.refused, "every size is captured"
    assert capfd.readouterr().err == ""
