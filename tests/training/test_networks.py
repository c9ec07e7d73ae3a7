"""The networks are the described ones."""

import pytest
import torch
from torch import nn

from training.fit.objectives import ClassObjective, VocabularyObjective
from training.networks import NETWORKS, WINDOW_FRAMES, NetworkConfig, build_network


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_network(NetworkConfig(name, 7, 0.2)).eval()


def maps(name: str) -> list[tuple[int, int, int]]:
    """Channels, frames and bands after each ReLU on a map."""
    seen: list[tuple[int, int, int]] = []
    network = build(name)
    for module in network.features.modules():
        if isinstance(module, nn.ReLU | nn.MaxPool2d):
            module.register_forward_hook(lambda _module, _inputs, out: seen.append(tuple(out.shape[1:])))
    with torch.inference_mode():
        network(torch.zeros(1, WINDOW_FRAMES[name], 64))
    return seen


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_window_becomes_128_numbers_and_then_class_scores(name):
    network = build(name)
    log_mel = torch.randn(3, WINDOW_FRAMES[name], 64)
    with torch.inference_mode():
        assert network.embed(log_mel).shape == (3, 128)
        assert network(log_mel).shape == (3, 7)


def test_yamnet_is_the_mobilenet_stack_without_its_last_two_separable_layers():
    expected = [(32, 240, 32), (64, 240, 32), (128, 120, 16), (128, 120, 16), (256, 60, 8), (256, 60, 8)]
    expected += [(512, 30, 4)] * 6
    pointwise = maps("yamnet")[::2]  # the first convolution, then each separable layer's second ReLU
    assert pointwise == expected


def test_yamnet_compact_is_the_first_seven_layers_of_yamnet():
    assert maps("yamnet-compact") == maps("yamnet")[: len(maps("yamnet-compact"))]
    assert maps("yamnet-compact")[-1] == (512, 30, 4)


def test_vggish_ends_its_four_groups_on_a_map_of_6_by_4():
    assert maps("vggish")[-1] == (512, 6, 4)


def test_stride_two_pads_as_tensorflow_does_one_row_after_and_none_before():
    network = build("yamnet")
    first = network.features[0]
    kernel = first[1]
    nn.init.zeros_(kernel.weight)
    kernel.weight.data[0, 0, 0, 0] = 1.0  # picks the top left sample under the kernel
    grid = torch.arange(480 * 64, dtype=torch.float32).reshape(1, 1, 480, 64)
    with torch.inference_mode():
        picked = kernel(first[0](grid))[0, 0]
    torch.testing.assert_close(picked, grid[0, 0, ::2, ::2])


def test_strided_depthwise_convolutions_stay_in_fp32_in_mixed_precision_on_a_cpu():
    strided = [
        module
        for module in build("yamnet").modules()
        if isinstance(module, nn.Conv2d) and module.groups > 1 and module.stride == (2, 2)
    ]
    assert len(strided) == 3
    for convolution in strided:
        rows = torch.randn(2, convolution.in_channels, 9, 9)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            mixed = convolution(rows.bfloat16())
        with torch.inference_mode():
            assert torch.equal(mixed, convolution(rows.bfloat16().float()))


def test_the_compact_embedding_ends_in_a_relu():
    with torch.inference_mode():
        assert (build("yamnet-compact").embed(torch.randn(4, 480, 64)) >= 0).all()


@pytest.mark.parametrize("name", list(NETWORKS))
def test_scaling_the_embedding_leaves_the_class_scores_alone(name):
    network = build(name)
    log_mel = torch.randn(2, WINDOW_FRAMES[name], 64)
    with torch.inference_mode():
        embedding, scores = network.embed(log_mel), network(log_mel)
        network.scale_embedding(0.1)
        torch.testing.assert_close(network.embed(log_mel), 0.1 * embedding)
        torch.testing.assert_close(network(log_mel), scores, rtol=1e-4, atol=1e-4)


def test_yamnets_repeated_layers_begin_by_passing_on_what_comes():
    network = build("yamnet").train()
    first = len(build("yamnet-compact").features) - 2  # without the pooling
    maps = torch.relu(torch.randn(4, 512, 30, 4))
    with torch.no_grad():
        later = network.features[first:-2](maps)
        earlier = network.features[first - 2 : first](torch.relu(torch.randn(4, 256, 60, 8)))
    assert nn.functional.cosine_similarity(later.flatten(1), maps.flatten(1)).min() > 0.97
    assert earlier.shape == maps.shape  # the layer before changes the shape: nothing it could pass on


@pytest.mark.parametrize(
    ("name", "text_size", "guided", "columns"),
    [("yamnet", 0, False, 135), ("yamnet", 50, True, 135), ("yamnet", 50, False, 128), ("vggish", 50, True, 128)],
)
def test_a_guide_stands_beside_yamnets_embedding_and_changes_nothing_of_it(name, text_size, guided, columns):
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name, 7, 0.2, text_size, guided)).eval()
    log_mel = torch.randn(3, WINDOW_FRAMES[name], 64)
    with torch.inference_mode():
        guided = network.embed_guided(log_mel)
        assert guided.shape == (3, columns)
        torch.testing.assert_close(guided[:, :128], network.embed(log_mel))


def test_the_guides_scores_are_trained_on_too():
    network = build("yamnet")
    objective = ClassObjective(None, 7, mixup=0.0, gain_db=0.0, crop_frames=480)
    rows = torch.randn(4, 135, requires_grad=True)
    wanted = torch.eye(7)[:4]
    loss, right = objective.loss(network, rows, (wanted,))
    apart = [nn.functional.cross_entropy(scores, wanted) for scores in (network.classify(rows[:, :128]), rows[:, 128:])]
    torch.testing.assert_close(loss, sum(apart))
    assert right == (network.classify(rows[:, :128]).argmax(1) == wanted.argmax(1)).sum()


def test_vocabulary_sounds_are_compared_by_the_embedding_and_not_by_the_guide():
    torch.manual_seed(0)
    network = build_network(NetworkConfig("yamnet", 7, 0.2, 50, guided=True)).eval()
    objective = VocabularyObjective(None, None, 480)
    rows, texts = torch.randn(4, 135), nn.functional.normalize(torch.randn(4, 50), dim=1)
    with torch.inference_mode():
        loss, _ = objective.loss(network, rows, (texts,))
        torch.testing.assert_close(loss, objective.loss(network, rows[:, :128], (texts,))[0])
