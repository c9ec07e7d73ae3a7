"""ONNX Runtime runs on the provider that was asked for, or says that it does not."""

from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from serving.backends import onnxruntime as backend
from serving.backends.onnxruntime import OnnxRuntime
from serving.errors import BackendError, UsageError
from serving.probes import probe_windows
from tests.gpu import needs_gpu, no_gpu
from tests.small_bundle import write_untrained_bundle


@pytest.fixture(scope="module")
def doubler(tmp_path_factory):
    """An ONNX file: waveform [batch, 4] -> embedding [batch, 4], twice the waveform."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["waveform", "waveform"], ["embedding"])],
        "doubler",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 4])],
    )
    path = tmp_path_factory.mktemp("doubler") / "doubler.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture
def created(monkeypatch):
    """Sessions as they are asked for: (providers with options, session options)."""
    asked = []
    real = onnxruntime.InferenceSession

    def session(path, options, providers, **others):
        asked.append((providers, options))
        return real(path, options, providers=providers, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return asked


def test_it_runs_the_graph_and_says_on_what(doubler):
    runtime = OnnxRuntime(doubler, 2, ["cpu"])
    np.testing.assert_array_equal(runtime(np.ones((3, 4), np.float32)), 2 * np.ones((3, 4)))
    assert runtime.providers == ["CPUExecutionProvider"]
    assert (runtime.name, runtime.threads, runtime.version) == ("onnxruntime", 2, onnxruntime.__version__)


def test_threads_and_spinning_reach_the_session(doubler, created):
    for spinning, entry in ((True, "1"), (False, "0")):
        OnnxRuntime(doubler, 3, ["cpu"], spinning=spinning)
        options = created[-1][1]
        assert options.intra_op_num_threads == 3
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == entry


@no_gpu
def test_a_machine_without_a_gpu_runs_on_its_cpu_and_warns_of_nothing(doubler, capfd):
    assert OnnxRuntime(doubler, 1).providers == ["CPUExecutionProvider"]
    assert capfd.readouterr() == ("", "")


@no_gpu
@pytest.mark.parametrize("asked", [["cuda"], ["cuda", "cpu"], ["tensorrt", "cuda", "cpu"]])
def test_a_provider_that_does_not_work_here_is_one_warning_with_the_reason(doubler, asked, capfd):
    runtime = OnnxRuntime(doubler, 1, asked)
    assert runtime.providers == ["CPUExecutionProvider"]
    out, err = capfd.readouterr()
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith(f"warning: provider {asked[0]} does not work here: ")
    assert "NVIDIA driver" in line
    assert "runs on CPUExecutionProvider" in line


@no_gpu
@pytest.mark.parametrize("asked", ["cuda", "tensorrt"])
def test_strict_refuses_the_fall_back(doubler, asked):
    with pytest.raises(BackendError, match=rf"provider {asked} does not work here: .*NVIDIA driver"):
        OnnxRuntime(doubler, 1, [asked, "cpu"], strict=True)


@no_gpu
@pytest.mark.parametrize("asked", ["cuda", "tensorrt"])
def test_a_fall_back_that_only_the_session_shows_is_noticed_too(doubler, asked, monkeypatch, capfd):
    """A driver seems to be there, so the session is made, and ONNX Runtime leaves the provider out by itself."""
    monkeypatch.setattr(backend, "missing_for", lambda provider: None)
    runtime = OnnxRuntime(doubler, 1, [asked])
    assert runtime.providers == ["CPUExecutionProvider"]
    np.testing.assert_array_equal(runtime(np.ones((1, 4), np.float32)), [[2, 2, 2, 2]])
    out, err = capfd.readouterr()
    assert out == ""
    assert sum(f"warning: provider {asked} does not work here" in line for line in err.splitlines()) == 1
    with pytest.raises(BackendError, match=f"provider {asked} does not work here"):
        OnnxRuntime(doubler, 1, [asked], strict=True)


def test_an_unknown_provider_is_named_with_those_that_exist(doubler):
    with pytest.raises(UsageError, match="got coreml; wanted cpu, cuda, tensorrt"):
        OnnxRuntime(doubler, 1, ["coreml"])


def test_an_onnxruntime_without_cuda_says_which_package_has_it(doubler, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match="install onnxruntime-gpu"):
        OnnxRuntime(doubler, 1, ["cuda"], strict=True)


@pytest.mark.parametrize(("version", "reason"), [("11.1.0", "11.1.0 is installed"), (None, "needs TensorRT 10")])
def test_the_tensorrt_provider_asks_for_tensorrt_10(doubler, monkeypatch, version, reason):
    monkeypatch.setattr(backend, "_loads", lambda library: library == backend.DRIVER)
    monkeypatch.setattr(backend, "installed_flavours", lambda: ["tensorrt"] if version else [])
    monkeypatch.setattr(backend, "load_flavour", lambda flavour: SimpleNamespace(__version__=version))
    with pytest.raises(BackendError, match=reason):
        OnnxRuntime(doubler, 1, ["tensorrt"], strict=True)


def test_gpu_providers_are_told_what_fp32_needs(doubler, monkeypatch, created, tmp_path):
    """TF32 would keep 10 bits of each product; one engine must serve every batch, and be found again."""
    monkeypatch.setattr(backend, "missing_for", lambda provider: None)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # so that what the runtime sets is taken back
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    OnnxRuntime(doubler, 1, ["tensorrt", "cuda"], cache=tmp_path / "cache")
    options = dict(next(providers for providers, _ in created if "Tensorrt" in str(providers)))
    assert options["CUDAExecutionProvider"]["use_tf32"] == "0"
    tensorrt = options["TensorrtExecutionProvider"]
    assert tensorrt["trt_engine_cache_path"] == str(tmp_path / "cache")
    assert (tmp_path / "cache").is_dir()
    assert tensorrt["trt_profile_min_shapes"] == "waveform:1x4"
    assert tensorrt["trt_profile_max_shapes"] == "waveform:64x4"


def test_a_file_that_is_no_graph_is_not_blamed_on_the_provider(tmp_path, monkeypatch):
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    monkeypatch.setattr(backend, "missing_for", lambda provider: None)
    with pytest.raises(Exception, match="Protobuf parsing failed"):
        OnnxRuntime(tmp_path / "broken.onnx", 1, ["cuda", "cpu"], strict=True)


@pytest.mark.gpu
@needs_gpu
def test_the_cuda_provider_embeds_like_the_cpu(tmp_path):
    bundle = write_untrained_bundle(tmp_path / "bundle", "yamnet-compact", ["fp32"])
    _, windows = probe_windows(bundle.manifest.window)
    model = bundle.model("fp32")
    cuda, cpu = OnnxRuntime(model, 1, ["cuda"], strict=True), OnnxRuntime(model, 1, ["cpu"])
    np.testing.assert_allclose(cuda(windows), cpu(windows), rtol=1e-3, atol=1e-4)
