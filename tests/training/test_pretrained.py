"""Published weights start our networks where the published modules stood, and nothing in a file is run."""

import copy
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from serving.errors import UsageError
from tests.published_yamnet import PublishedYAMNet, published_yamnet
from training.compute import Compute
from training.data.clips import load_clips
from training.fit.workers import Workers
from training.networks import Network, NetworkConfig, build_network
from training.options import Options, configure
from training.pretraining import Where, pretrain
from training.published.pretrained import WARNING, PretrainedReport, load_pretrained
from training.synthesis.vocabulary import VOCABULARY_SEED, load_vocabulary
from training.text_encoders import text_encoder

DEPTH = {"yamnet": 12, "yamnet-compact": 7}
# Compared in FP64: the order of a sum depends on the CPU and moves it by 1e-14; another epsilon of BatchNorm moves it
# by 1e-4.
assert_same_in_fp64 = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)
# A BatchNorm that does nothing in vggish divides by sqrt(running_var + eps). Its running_var = 1 - eps is rounded to
# FP32, by 3e-8: 9e-7 in numbers up to 16, on any CPU.
assert_same_but_for_norms = partial(torch.testing.assert_close, rtol=1e-6, atol=3e-6)


class PublishedVGGish(nn.Module):
    """The names and sums of harritaylor/torchvggish's VGG, written anew."""

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for out in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0):
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()] if out else [nn.MaxPool2d(2, 2)]
            channels = out or channels
        self.features = nn.Sequential(*layers)
        steps = ((512 * 4 * 6, 4096), (4096, 4096), (4096, 128))
        self.embeddings = nn.Sequential(*[module for step in steps for module in (nn.Linear(*step), nn.ReLU())])

    def forward(self, log_mel: Tensor) -> Tensor:
        maps = self.features(log_mel[:, None])  # [batch, channels, frames, bands]
        return self.embeddings(maps.permute(0, 2, 3, 1).reshape(len(maps), -1))


@pytest.fixture(scope="module")
def yamnet() -> PublishedYAMNet:
    return published_yamnet(seed=1)


@pytest.fixture(scope="module")
def vggish() -> PublishedVGGish:
    torch.manual_seed(2)
    module = PublishedVGGish()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(layer.bias, std=0.3)
    with torch.no_grad():  # numbers of order 1: float32 sums of either module are off by 5e-6 of their size
        module.embeddings.get_parameter("4.weight").mul_(0.2)
    return module.eval()


@pytest.fixture
def weights(yamnet) -> dict[str, Tensor]:
    return dict(yamnet.state_dict())


def build(name: str) -> Network:
    torch.manual_seed(0)
    return build_network(NetworkConfig(name, 7, 0.2)).eval()


def write(tensors: object, path: Path) -> Path:
    if path.suffix == ".safetensors":
        assert isinstance(tensors, dict)
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def refused(path: Path, *parts: str, name: str = "yamnet-compact") -> None:
    """One line with these parts; the network stays as it was."""
    network = build(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UsageError) as caught:
        load_pretrained(network, path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    for part in parts:
        assert part in message
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("name", list(DEPTH))
def test_features_equal_published_yamnets_pooled_at_the_same_depth(name, suffix, yamnet, weights, tmp_path):
    network = build(name)
    log_mel = torch.randn(3, 96, 64)
    report = load_pretrained(network, write(weights, tmp_path / f"yamnet{suffix}"))
    with torch.inference_mode():
        exact, log_mel = copy.deepcopy(yamnet).double(), log_mel.double()
        wanted = exact.pooled(log_mel, DEPTH[name])
        got = network.double().features(log_mel.unsqueeze(1))
        assert wanted.std(dim=0).mean() > 1e-3  # the inputs can be told apart
        assert_same_in_fp64(got, wanted)
    assert len(report.loaded) == 5 * (2 * DEPTH[name] - 1)


def test_the_old_torch_format_of_published_files_is_read(yamnet, weights, tmp_path):
    network = build("yamnet-compact")
    torch.save(weights, tmp_path / "yamnet.pth", _use_new_zipfile_serialization=False)
    load_pretrained(network, tmp_path / "yamnet.pth")
    assert torch.equal(network.state_dict()["features.0.1.weight"], yamnet.state_dict()["layer1.fused.conv.weight"])


def test_half_precision_weights_become_float32(weights, tmp_path):
    network = build("yamnet-compact")
    halves = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    load_pretrained(network, write(halves, tmp_path / "half.safetensors"))
    stored = network.state_dict()["features.0.1.weight"]
    assert stored.dtype == torch.float32
    torch.testing.assert_close(stored, weights["layer1.fused.conv.weight"], rtol=1e-3, atol=1e-3)


def test_vggish_in_eval_mode_equals_published_vggish_up_to_its_last_relu(vggish, tmp_path):
    network = build("vggish")
    with torch.no_grad():  # a network that has moved since it was built, as after some training
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                for part in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                    assert part is not None
                    part.uniform_(0.5, 2.0)
    log_mel = torch.randn(3, 96, 64)
    stored = {**vggish.state_dict(), "pproc.pca_means": torch.zeros(128, 1)}
    report = load_pretrained(network, write(stored, tmp_path / "vggish.safetensors"))
    with torch.inference_mode():
        exact, network, log_mel = copy.deepcopy(vggish).double(), network.double(), log_mel.double()
        maps = exact.features(log_mel.unsqueeze(1)).flatten(1)
        assert_same_but_for_norms(network.features(log_mel.unsqueeze(1)), maps)
        wanted = exact(log_mel)
        assert wanted.std(dim=0).mean() > 0.05  # the inputs can be told apart
        assert_same_but_for_norms(torch.relu(network.embed(log_mel)), wanted)
    assert set(report.loaded) == set(vggish.state_dict())
    assert report.skipped == ("pproc.pca_means",)
    assert {name.split(".")[0] for name in report.fresh} == {"head"}


def test_the_report_tells_loaded_skipped_and_fresh_and_warns(weights, tmp_path):
    network = build("yamnet")
    report = load_pretrained(network, write(weights, tmp_path / "yamnet.pt"))
    assert isinstance(report, PretrainedReport)
    assert {name.split(".")[0] for name in report.skipped} == {"layer13", "layer14", "classifier"}
    counters = {name for name in weights if name.endswith("num_batches_tracked")}
    assert {*report.loaded, *report.skipped} == set(weights) - counters
    assert {name.split(".")[0] for name in report.fresh} == {"embedding", "guide", "head"}
    assert report.line().startswith("115 tensors of torch_audioset's YAMNet loaded; 22 skipped (layer13, layer14, cl")
    assert report.warnings[0] == WARNING
    for word in ("AudioSet", "ESC-50", "FSC22", "zero-shot"):
        assert word in WARNING
    assert not any("\n" in text for text in (report.line(), *report.warnings))


def test_a_missing_tensor_is_named_with_the_shape_it_should_have(weights, tmp_path):
    del weights["layer5.pointwise_conv.bn.running_var"]
    refused(write(weights, tmp_path / "w.pt"), "layer5.pointwise_conv.bn.running_var", "got none", "[256]")


def test_the_weights_of_a_run_are_refused_with_what_a_run_can_give(tmp_path):
    refused(write(build("yamnet").state_dict(), tmp_path / "weights.safetensors"), "weights of a run", "export.onnx")


def test_a_layer_that_is_not_used_may_be_missing(weights, tmp_path):
    first = tuple(f"layer{k}." for k in range(1, 8))
    kept = {name: value for name, value in weights.items() if name.startswith(first)}
    load_pretrained(build("yamnet-compact"), write(kept, tmp_path / "w.safetensors"))
    refused(write(kept, tmp_path / "w.pt"), "layer8.depthwise_conv.conv.weight", name="yamnet")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(weights, tmp_path):
    weights["layer7.pointwise_conv.conv.weight"] = torch.zeros(512, 256)
    got_and_wanted = ("layer7.pointwise_conv.conv.weight", "got [512, 256]", "wanted [512, 256, 1, 1]")
    refused(write(weights, tmp_path / "w.safetensors"), *got_and_wanted)


def test_weights_that_are_not_numbers_are_refused(weights, tmp_path):
    weights["layer2.depthwise_conv.bn.bias"] = torch.full((32,), torch.nan)
    refused(write(weights, tmp_path / "nan.pt"), "layer2.depthwise_conv.bn.bias", "NaN")
    weights["layer2.depthwise_conv.bn.bias"] = torch.zeros(32, dtype=torch.int64)
    refused(write(weights, tmp_path / "int.pt"), "layer2.depthwise_conv.bn.bias", "torch.int64")


@pytest.mark.parametrize("name", ["vggish", "yamnet"])
def test_the_other_familys_weights_are_refused_with_the_module_that_is_wanted(name, weights, tmp_path):
    others = weights if name == "vggish" else {"features.0.weight": torch.zeros(64, 1, 3, 3)}
    wanted = {"vggish": "torchvggish's VGGish", "yamnet": "torch_audioset's YAMNet"}[name]
    refused(write(others, tmp_path / "w.safetensors"), "got none", wanted, name=name)


class Plant:
    """Runs a command in whoever unpickles it."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("form", ["zip", "old", "pickle", "pickle 2"])
def test_a_pickle_with_code_is_refused_and_not_run(form, suffix, weights, tmp_path):
    mark, path = tmp_path / "planted", tmp_path / f"evil{suffix}"
    content = {**weights, "layer1.fused.conv.bias": Plant(mark)}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(Plant(mark), protocol=2 if form == "pickle 2" else None))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    named = suffix != ".safetensors" and form != "pickle"  # torch reads no pickle of protocol 3 or later
    refused(path, "system, which runs code" if named else "not a readable")
    assert not mark.exists()
    if form == "pickle":
        script = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
        subprocess.run([sys.executable, "-c", script, str(path)], check=True)
        assert mark.exists()  # the plant is real


def test_a_whole_pickled_module_is_refused_with_its_class(yamnet, tmp_path):
    refused(write(yamnet, tmp_path / "module.pt"), "PublishedYAMNet", "state_dict()")


def test_a_checkpoint_around_the_weights_is_refused_with_its_names(weights, tmp_path):
    refused(write({"epoch": 3, "state_dict": weights}, tmp_path / "c.pt"), "epoch, state_dict", "state_dict() alone")
    refused(write([1, 2], tmp_path / "list.pt"), "a list")
    refused(write(weights["classifier.bias"], tmp_path / "tensor.pt"), "a Tensor")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_what_is_no_weights_file_is_one_line(suffix, weights, tmp_path, capfd, recwarn):
    whole = write(weights, tmp_path / f"whole{suffix}").read_bytes()
    broken = {
        "empty": b"",
        "text": b"<!DOCTYPE html>\n<html>\n" * 40,
        "zeros": bytes(4096),
        "words": b"hello\n" * 40,
        "noise": bytes(range(256)) * 40,
        "unknown protocol": b"\x80\x18" + bytes(100),
        "no utf-8": b"X\x01\x00\x00\x00\xff.",
        "cut": whole[: len(whole) // 2],
        "short": whole[:100],
    }
    for name, content in broken.items():
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(content)
        refused(path, "not a readable")
    assert not recwarn.list
    assert capfd.readouterr().err == ""


def test_another_kind_of_file_a_folder_and_no_file_are_one_line_each(tmp_path):
    (tmp_path / "folder.pt").mkdir()
    refused(tmp_path / "yamnet.ckpt", "got .ckpt", ".safetensors, .pt, .pth, .h5, .tflite or .onnx")
    refused(tmp_path / "yamnet", "got no suffix")
    refused(tmp_path / "folder.pt", "a folder")
    refused(tmp_path / "nothing.pt", "no such file")


def test_a_name_with_line_breaks_still_gives_one_line(tmp_path):
    refused(write({"a\nb\x1b[31m": torch.zeros(1)}, tmp_path / "w.pt"), "a\\nb\\x1b[31m")


def test_the_weights_that_runs_share_do_not_depend_on_the_classes_of_the_first_run(yamnet, recordings, tmp_path):
    save_file(yamnet.state_dict(), tmp_path / "yamnet.safetensors")
    vocabulary, shared = None, []
    for unseen in (None, "clicks"):
        flags = Options(
            dataset="folder", data_dir=recordings, network="yamnet", init=tmp_path / "yamnet.safetensors",
            vocabulary=2, vocabulary_epochs=1, unseen=unseen,
        )  # fmt: skip
        config = configure(flags, load_clips("folder", recordings))
        window = config.front_end.network_window(config.window_frames)
        vocabulary = vocabulary or load_vocabulary(2, VOCABULARY_SEED, config.front_end, window, tmp_path)
        torch.manual_seed(config.seed)
        network = build_network(config.network)
        load_pretrained(network, tmp_path / "yamnet.safetensors")
        where = Where(tmp_path / f"cache-{unseen}", Compute(torch.device("cpu"), torch.float32, False), Workers())
        encoded = text_encoder(config.text)(vocabulary.texts)
        pretrain(network, config, vocabulary, encoded, where, lambda *_: None, lambda _: None)
        shared.append(network)
    (of_three,), (of_two,) = (list((tmp_path / f"cache-{unseen}").glob("pretrained-*")) for unseen in (None, "clicks"))
    assert of_three.name == of_two.name  # one key, so one result
    assert shared[0].n_classes != shared[1].n_classes
    for part in ("features", "embedding"):
        one, other = (network.get_submodule(part).state_dict() for network in shared)
        assert all(torch.equal(one[name], other[name]) for name in one)
