"""What is stored of a training: a network and its optimiser, restored, learn on as if nothing had happened."""

import copy

import torch
from torch import Tensor, nn

from training.fit.checkpoint import load_tensors, optimiser_tensors, restore, save_tensors


def learner() -> tuple[nn.Module, torch.optim.Optimizer]:
    """As training makes them: convolutions in channels_last, a fused AdamW."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 2, 3)).to(memory_format=torch.channels_last)
    return network, torch.optim.AdamW(network.parameters(), lr=0.01, fused=True)


def learn(network: nn.Module, optimiser: torch.optim.Optimizer, batches: list[Tensor]) -> dict[str, Tensor]:
    for batch in batches:
        optimiser.zero_grad()
        network(batch).square().mean().backward()
        optimiser.step()
    return copy.deepcopy(network.state_dict())


def test_a_restored_network_of_whole_convolutions_learns_on_bit_for_bit(tmp_path):
    batches = list(torch.randn(6, 5, 4, 9, 9, generator=torch.Generator().manual_seed(1)))
    whole = learn(*learner(), batches)

    network, optimiser = learner()
    learn(network, optimiser, batches[:3])
    stored = {f"network.{name}": value for name, value in network.state_dict().items()}
    save_tensors(tmp_path / "last.safetensors", stored | optimiser_tensors(optimiser))
    network, optimiser = learner()
    restore(network, optimiser, load_tensors(tmp_path / "last.safetensors")[0])
    resumed = learn(network, optimiser, batches[3:])
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
