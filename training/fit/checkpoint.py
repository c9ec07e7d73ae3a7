"""Weights and optimiser state on disk: safetensors, never pickle. Each write replaces the file as a whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from serving.errors import RunError
from serving.files.atomic_write import write_atomically


def save_whole(path: Path, save: Callable[[Path], object]) -> None:
    """Let `save` write a file that appears complete or not at all.

    errors   RunError: the disk is full or the folder cannot be written; an existing file is kept
    """
    try:
        write_atomically(path, save)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path}: cannot be written ({reason}); free some space or give another --out") from error


def write_text(path: Path, text: str) -> None:
    """Write a small text file as a whole. RunError as in `save_whole`."""
    save_whole(path, lambda temporary: temporary.write_text(text))


def save_tensors(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any] | None = None) -> None:
    """Write tensors, and a JSON object of facts about them, as a whole. RunError as in `save_whole`."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def save(temporary: Path) -> None:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(contiguous, temporary, {"facts": json.dumps(facts or {})})
        temporary.chmod(mode)  # safetensors lets only the owner read its files

    save_whole(path, save)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and facts that `save_tensors` wrote. RunError if the file is missing or cannot be read."""
    if not path.is_file():
        raise RunError(f"{path}: is missing; train first with: python -m training.run --out {path.parent}")
    try:
        with safe_open(path, "pt") as stored:
            facts = json.loads((stored.metadata() or {}).get("facts", "{}"))
            return {name: stored.get_tensor(name) for name in stored.keys()}, facts  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"{path}: not a readable safetensors file ({error}); train again") from error


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts, named optimiser.<parameter number>.<key>."""
    state = optimiser.state_dict()["state"]
    return {f"optimiser.{i}.{key}": value for i, entry in state.items() for key, value in entry.items()}


def restore(network: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load `network.state_dict()`, saved with the prefix "network.", and what `optimiser_tensors` returned."""
    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    content = optimiser.state_dict()
    content["state"] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            content["state"].setdefault(int(index), {})[key] = _laid_out_as(parameters[int(index)], value)
    optimiser.load_state_dict(content)


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """A moment with the strides of its parameter: fused AdamW pairs their numbers in the order of memory."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
