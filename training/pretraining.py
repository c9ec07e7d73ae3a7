"""Pretrain a network on the acoustic vocabulary: once for a seed, because the weights depend on no recording."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serving.errors import RunError
from training.compute import Compute
from training.data.clip_frames import CROPS
from training.data.file_lock import folder_lock
from training.data.fingerprint import fingerprint
from training.fit.checkpoint import load_tensors
from training.fit.loop import fit
from training.fit.objectives import VocabularyObjective
from training.fit.recipe import Recipe
from training.fit.workers import Workers
from training.networks import FRESH_WEIGHTS, Network, NetworkConfig, build_network
from training.run_folder import LAST, WEIGHTS, RunConfig
from training.synthesis.vocabulary import VERSION, Vocabulary
from training.zeroshot_maps import centred_unit_rows

STARTED_WEIGHTS = 2  # raised when the same published weights give others


@dataclass(frozen=True)
class Where:
    """The device and the processes that compute, and the folder of the weights that runs share."""

    cache_dir: Path
    compute: Compute
    workers: Workers


def pretrain(
    network: Network,
    config: RunConfig,
    vocabulary: Vocabulary,
    encoded: NDArray[np.float32],
    where: Where,
    on_step: Callable[[int, float], None],
    say: Callable[[str], None],
) -> None:
    """Pretrain the network on the vocabulary. The weights depend on no recording, so runs share them in the cache.

    encoded  [n_sounds, text_size] float32: vectors of the vocabulary's descriptions
    """
    workers = where.workers
    recipe = replace(_recipe(config), epochs=config.vocabulary_epochs)
    # The head's size is not used here, but the random weights depend on it. It is 1, so that runs can share them.
    shape = NetworkConfig(config.network.name, 1, config.network.dropout, encoded.shape[1])
    folder = where.cache_dir / f"pretrained-{_key(config, shape, recipe, encoded, where.compute)}"
    with workers.held_by_first(folder_lock(folder)):
        weights = _finished(folder, recipe.epochs)
        if weights is None:
            with workers.first_alone():
                folder.mkdir(parents=True, exist_ok=True)
            torch.manual_seed(config.seed)
            pretrained = build_network(shape)
            if config.init:
                pretrained.features.load_state_dict(network.features.state_dict())
                if config.network.name == "vggish":  # no other file has the embedding; a run's random one depends on
                    pretrained.embedding.load_state_dict(network.embedding.state_dict())  # its number of classes
            crop = round(recipe.crop * config.window_frames)
            objective = VocabularyObjective(vocabulary, centred_unit_rows(encoded, encoded.mean(axis=0)), crop)
            say(f"the acoustic vocabulary first: {config.vocabulary} synthesised sounds, {recipe.epochs} epochs")
            fit(
                pretrained, objective, None, recipe, config.seed, where.compute, folder,
                on_step, resume=_is_readable(folder / LAST), workers=workers,
            )  # fmt: skip
            weights = pretrained.state_dict()
    # A class head keeps its random weights. A text head takes all tensors except the class vectors.
    left_out = "head.class_vectors" if config.network.text_size else "head."
    taken = {name: value for name, value in weights.items() if not name.startswith(left_out)}
    network.load_state_dict(taken, strict=False)


def _key(
    config: RunConfig, shape: NetworkConfig, recipe: Recipe, encoded: NDArray[np.float32], compute: Compute
) -> str:
    """A hash of everything that the pretrained weights depend on."""
    network = {name: value for name, value in asdict(shape).items() if name != "guided"}  # it never is
    depends = {"version": VERSION, "crops": CROPS, "network": network, "recipe": asdict(recipe), "seed": config.seed}
    depends |= {"fresh_weights": FRESH_WEIGHTS}
    depends |= {"text": config.text, "sounds": config.vocabulary, "front_end": asdict(config.front_end)}
    if ":" in config.text:  # the encoder is a file or a folder; its content may change
        depends["vectors"] = hashlib.sha256(encoded.tobytes()).hexdigest()
    depends |= {"init": config.init, "torch": torch.__version__, "compute": str(compute)}
    if config.init:
        depends["started_weights"] = STARTED_WEIGHTS
    return fingerprint(depends)


def _finished(folder: Path, epochs: int) -> dict[str, Tensor] | None:
    """The pretrained weights in a cache folder; None if they are missing, damaged or of another number of epochs."""
    try:
        weights, facts = load_tensors(folder / WEIGHTS)
    except RunError:
        return None
    return weights if facts.get("epoch") == epochs else None


def _is_readable(path: Path) -> bool:
    """Whether a checkpoint in the cache can be resumed; a damaged one is replaced."""
    try:
        load_tensors(path)
    except RunError:
        return False
    return True


def _recipe(config: RunConfig) -> Recipe:
    """The recipe for the vocabulary: crops as in the run, no mixup because descriptions cannot be mixed."""
    return Recipe(epochs=12, batch_size=32, learning_rate=2e-3, crop=config.recipe.crop, mixup=0.0)
