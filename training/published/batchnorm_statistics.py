"""Give BatchNorm layers running statistics where published weights have none, or have them folded into convolutions."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def measure_statistics(layers: nn.Sequential, inputs: Tensor) -> None:
    """Set each BatchNorm's running mean and variance to those of its inputs, in place.

    Its weight and bias are changed so that the output in eval mode stays the same. In training, BatchNorm normalises by
    the batch's statistics; without this step, training would start from other features than the published ones.

    layers   in eval mode
    inputs   [n, ...] inputs of the first layer; statistics are over all axes but the channels
    """

    def set_statistics(module: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        assert module.running_mean is not None
        assert module.running_var is not None
        axes = [axis for axis in range(inputs[0].ndim) if axis != 1]
        variance, mean = torch.var_mean(inputs[0], dim=axes, correction=0)
        factor = module.weight / torch.sqrt(module.running_var + module.eps)
        module.bias.copy_(module.bias + factor * (mean - module.running_mean))
        module.weight.copy_(factor * torch.sqrt(variance + module.eps))
        module.running_mean.copy_(mean)
        module.running_var.copy_(variance)

    batch_norms = [module for module in layers.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    hooks = [module.register_forward_pre_hook(set_statistics) for module in batch_norms]
    try:
        layers(inputs)
    finally:
        for hook in hooks:
            hook.remove()
