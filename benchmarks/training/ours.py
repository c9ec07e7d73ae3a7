"""The stages of this project's training: decoded once, log-mel cached, crops augmented, one fused step."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from serving.audio import read_audio, to_mono
from serving.frontend import LogMelConfig
from training.data.windows import ClipSet, cached_frames, padded_wave
from training.fit.loop import fit
from training.fit.objectives import ClassObjective
from training.fit.recipe import Compute, Recipe
from training.frontend import LogMel
from training.networks import WINDOW_FRAMES, NetworkConfig, build_network

CLASSES = 10


class Ours:
    """The stages, each a call over all clips.

    folder  a temporary one, for the cache and the run
    """

    def __init__(self, network: str, paths: Sequence[Path], batch_size: int, folder: Path):
        self.front_end = LogMelConfig()
        self.frames = WINDOW_FRAMES[network]
        self.window = self.front_end.network_window(self.frames)
        self._network = NetworkConfig(network, CLASSES, 0.2)
        self._paths = paths
        self._folder = folder
        recipe = self._recipe = Recipe(epochs=1, batch_size=batch_size, mixing="sound")
        self._rng = np.random.default_rng(0)
        waves: list[Callable[[], NDArray[np.float32]]] = [partial(self._decode, path) for path in paths]
        frames = cached_frames(folder / "cache", waves, "decoding", self.front_end, self.window)
        clips = ClipSet(frames, np.arange(len(paths)), np.arange(len(paths)) % CLASSES)
        self._objective = ClassObjective(clips, CLASSES, recipe.mixup, recipe.gain_db, self.frames, recipe.mixing)
        self._log_mel = LogMel(self.front_end)
        torch.manual_seed(0)
        self._trained = build_network(self._network).train().to(memory_format=torch.channels_last)
        self._optimiser = torch.optim.AdamW(self._trained.parameters(), fused=True)

    @property
    def samples(self) -> int:
        """Windows of one epoch."""
        return len(self._objective.order)

    def _decode(self, path: Path) -> NDArray[np.float32]:
        return to_mono(*read_audio(path), self.window.rate_hz)

    def decode(self) -> list[NDArray[np.float32]]:
        """Every file, one after the other in one thread: [n_samples] float32 each."""
        return [self._decode(path) for path in self._paths]

    def log_mel(self, waves: Sequence[NDArray[np.float32]]) -> None:
        """Of every clip, as the cache is made."""
        with torch.inference_mode():
            for wave in waves:
                self._log_mel(torch.from_numpy(padded_wave(wave, self.window))[None])

    def batches(self) -> list[tuple[torch.Tensor, tuple[torch.Tensor, ...]]]:
        """An epoch's batches: random crops out of the cache, with gain and mixup."""
        order = self._rng.permutation(self._objective.order)
        parts = np.array_split(order, max(1, -(-len(order) // self._recipe.batch_size)))
        return [self._objective.batch(rows, self._rng) for rows in parts]

    def steps(self, batches: Sequence[tuple[torch.Tensor, tuple[torch.Tensor, ...]]]) -> None:
        """Forward, backward and the optimiser's step on every batch."""
        for log_mel, targets in batches:
            loss, _ = self._objective.loss(self._trained, self._trained.embed_guided(log_mel), targets)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self._optimiser.step()

    def epoch(self) -> None:
        """One epoch as the command trains it, its checkpoint included."""
        network = build_network(self._network)
        run = self._folder / "run"
        run.mkdir(exist_ok=True)
        fit(network, self._objective, None, self._recipe, 0, Compute(torch.device("cpu")), run)
