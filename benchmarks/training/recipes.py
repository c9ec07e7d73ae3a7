"""Two ways to train the same network on the same files: this project's, and the one that tutorials show.

Both offer the same stages as methods; each call processes all files.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from serving.audio import Recording
from serving.log_mel import LogMelConfig
from training.compute import Compute
from training.data.clip_frames import ClipSet, padded_wave
from training.data.frame_cache import cached_frames
from training.fit.loop import fit
from training.fit.objectives import ClassObjective, make_batch
from training.fit.recipe import Recipe, steps_per_epoch
from training.log_mel_module import LogMel
from training.networks import WINDOW_FRAMES, NetworkConfig, build_network

CLASSES = 10


class OurRecipe:
    """Files are decoded and turned into log-mel once and cached; random crops, gain and mixup; a fused optimiser.

    folder   temporary, for the cache and the run
    compute  a CPU, and the precision
    """

    def __init__(self, network: str, paths: Sequence[Path], batch_size: int, folder: Path, compute: Compute):
        front_end = LogMelConfig()
        self.frames = WINDOW_FRAMES[network]
        self._window = front_end.network_window(self.frames)
        self._network = NetworkConfig(network, CLASSES, 0.2)
        self._paths = paths
        self._folder = folder
        self._compute = compute
        recipe = self._recipe = Recipe(epochs=1, batch_size=batch_size, mixing="sound")
        self._rng = np.random.default_rng(0)
        waves: list[Callable[[], NDArray[np.float32]]] = [partial(self._decode, path) for path in paths]
        frames = cached_frames(folder / "cache", waves, "decoding", front_end, self._window)
        clips = ClipSet(frames, np.arange(len(paths)), np.arange(len(paths)) % CLASSES)
        self._objective = ClassObjective(clips, CLASSES, recipe.mixup, recipe.gain_db, self.frames, recipe.mixing)
        self._log_mel = LogMel(front_end)
        torch.manual_seed(0)
        self._trained = build_network(self._network).train().to(memory_format=torch.channels_last)
        self._optimiser = torch.optim.AdamW(self._trained.parameters(), fused=True)

    @property
    def samples(self) -> int:
        """Windows in one epoch."""
        return len(self._objective.order)

    def _decode(self, path: Path) -> NDArray[np.float32]:
        return Recording.from_file(path, self._window.rate_hz).wave

    def decode(self) -> list[NDArray[np.float32]]:
        """Decode every file in one thread: [n_samples] float32 each."""
        return [self._decode(path) for path in self._paths]

    def log_mel(self, waves: Sequence[NDArray[np.float32]]) -> None:
        """Compute the log-mel of each wave, as for the cache."""
        with torch.inference_mode():
            for wave in waves:
                self._log_mel(torch.from_numpy(padded_wave(wave, self._window))[None])

    def batches(self) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
        """Make the batches of one epoch from the cache: random crops with gain and mixup."""
        order = self._rng.permutation(self._objective.order)
        parts = np.array_split(order, steps_per_epoch(len(order), self._recipe.batch_size))
        return [make_batch(self._objective, rows, self._rng) for rows in parts]

    def steps(self, batches: Sequence[tuple[Tensor, tuple[Tensor, ...]]]) -> None:
        """Do forward pass, backward pass and optimiser step on each batch."""
        for log_mel, targets in batches:
            with self._compute.autocast():
                embeddings = self._trained.embed_guided(log_mel)
            loss, _ = self._objective.loss(self._trained, embeddings.float(), targets)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self._optimiser.step()

    def epoch(self) -> None:
        """Train one epoch as the command does, with its checkpoint."""
        network = build_network(self._network)
        run = self._folder / "run"
        run.mkdir(exist_ok=True)
        fit(network, self._objective, None, self._recipe, 0, self._compute, run)


class CroppedFiles(Dataset[tuple[Tensor, int]]):
    """Item i: log-mel [frames, 64] of a random crop of file i, and its label."""

    def __init__(self, paths: Sequence[Path], config: LogMelConfig, frames: int, n_classes: int):
        self.paths = paths
        self.config = config
        self.frames = frames
        self.n_classes = n_classes
        self.mel = torchaudio.transforms.MelSpectrogram(
            config.rate_hz, config.fft_bins, config.window_samples, config.hop_samples, config.low_hz, config.high_hz,
            n_mels=config.mel_bands, power=1.0,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def wave(self, path: Path) -> Tensor:
        """A file as mono at the network's rate: [n_samples]."""
        wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        return torchaudio.functional.resample(torch.from_numpy(wave).mean(1), rate_hz, self.config.rate_hz)

    def log_mel(self, wave: Tensor) -> Tensor:
        """[n_samples] -> [n_frames, 64]."""
        return torch.log(self.mel(wave) + self.config.log_offset).T

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        log_mel = self.log_mel(self.wave(self.paths[index]))
        log_mel = nn.functional.pad(log_mel, (0, 0, 0, max(0, self.frames - len(log_mel))))
        first = int(torch.randint(0, len(log_mel) - self.frames + 1, ()))
        return log_mel[first : first + self.frames].contiguous(), index % self.n_classes


class PlainRecipe:
    """A DataLoader's workers decode every file in every epoch; torchaudio resamples; Adam is not fused.

    folder  temporary, for the checkpoint
    """

    def __init__(
        self, network: NetworkConfig, paths: Sequence[Path], frames: int, batch_size: int, threads: int, folder: Path
    ):
        self._files = CroppedFiles(paths, LogMelConfig(), frames, network.n_classes)
        self._folder = folder
        self._loader = DataLoader(
            self._files,
            batch_size,
            shuffle=True,
            num_workers=threads,
            persistent_workers=True,
            drop_last=len(paths) % batch_size == 1,  # BatchNorm cannot train on a single sample
        )
        torch.manual_seed(0)
        self._network = build_network(network).train()
        self._optimiser = torch.optim.Adam(self._network.parameters())

    @property
    def samples(self) -> int:
        """Crops in one epoch."""
        files, size = len(self._files), self._loader.batch_size or 1
        return files - (files % size if self._loader.drop_last else 0)

    def decode(self) -> list[NDArray[np.float32]]:
        """Decode every file in one thread, as a worker of the DataLoader does: torchaudio resamples in several."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return [self._files.wave(path).numpy() for path in self._files.paths]
        finally:
            torch.set_num_threads(threads)

    def log_mel(self, waves: Sequence[NDArray[np.float32]]) -> None:
        """Compute the log-mel of each wave."""
        with torch.inference_mode():
            for wave in waves:
                self._files.log_mel(torch.from_numpy(wave))

    def steps(self, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Do forward pass, backward pass and optimiser step on each batch of log-mels and labels or soft targets."""
        for log_mel, labels in batches:
            loss = nn.functional.cross_entropy(self._network(log_mel), labels)
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()

    def epoch(self) -> None:
        """Train one epoch from the files, and save a checkpoint."""
        for batch in self._loader:
            self.steps([batch])
        torch.save([self._network.state_dict(), self._optimiser.state_dict()], self._folder / "plain.pt")
