"""BatchNorms that came without statistics, as of published weights that have none or have them folded in."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def measure_norms(layers: nn.Sequential, inputs: Tensor) -> None:
    """Give each BatchNorm the statistics of what it is given; what the layers compute in eval mode stays the same.

    Training normalises by the batch's statistics, so without this it would begin with other features than the weights
    were published for.

    layers   in eval mode
    inputs   what they take, enough of it: statistics are over rows and map
    """

    def take(module: nn.Module, given: tuple[Tensor]) -> None:
        assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        assert module.running_mean is not None
        assert module.running_var is not None
        axes = [axis for axis in range(given[0].ndim) if axis != 1]
        variance, mean = torch.var_mean(given[0], dim=axes, correction=0)
        factor = module.weight / torch.sqrt(module.running_var + module.eps)
        module.bias.copy_(module.bias + factor * (mean - module.running_mean))
        module.weight.copy_(factor * torch.sqrt(variance + module.eps))
        module.running_mean.copy_(mean)
        module.running_var.copy_(variance)

    norms = [module for module in layers.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(take) for norm in norms]
    try:
        layers(inputs)
    finally:
        for hook in hooks:
            hook.remove()
