"""The plain recipe that tutorials show: files decoded and transformed anew in each epoch, by a DataLoader's workers.

torchaudio resamples and makes the mel spectrogram, Adam without fusion steps, and a checkpoint is saved at the end.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from serving.frontend import LogMelConfig
from training.networks import NetworkConfig, build_network


class Files(Dataset[tuple[Tensor, int]]):
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
        """Mono at the network's rate: [n_samples]."""
        wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        return torchaudio.functional.resample(torch.from_numpy(wave).mean(1), rate_hz, self.config.rate_hz)

    def log_mel(self, wave: Tensor) -> Tensor:
        """[n_frames, 64]."""
        return torch.log(self.mel(wave) + self.config.log_offset).T

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        log_mel = self.log_mel(self.wave(self.paths[index]))
        log_mel = nn.functional.pad(log_mel, (0, 0, 0, max(0, self.frames - len(log_mel))))
        first = int(torch.randint(0, len(log_mel) - self.frames + 1, ()))
        return log_mel[first : first + self.frames].contiguous(), index % self.n_classes


class Plain:
    """The stages, each a call over all files: a sample is a random crop of one of them.

    folder  a temporary one, for the checkpoint
    """

    def __init__(
        self, network: NetworkConfig, paths: Sequence[Path], frames: int, batch_size: int, threads: int, folder: Path
    ):
        self._files = Files(paths, LogMelConfig(), frames, network.n_classes)
        self._folder = folder
        self._loader = DataLoader(
            self._files,
            batch_size,
            shuffle=True,
            num_workers=threads,
            persistent_workers=True,
            drop_last=len(paths) % batch_size == 1,  # BatchNorm cannot take a single sample
        )
        torch.manual_seed(0)
        self._network = build_network(network).train()
        self._optimiser = torch.optim.Adam(self._network.parameters())

    @property
    def samples(self) -> int:
        """Crops of one epoch."""
        files, size = len(self._files), self._loader.batch_size or 1
        return files - (files % size if self._loader.drop_last else 0)

    def decode(self) -> list[NDArray[np.float32]]:
        """Every file, one after the other in one thread."""
        return [self._files.wave(path).numpy() for path in self._files.paths]

    def log_mel(self, waves: Sequence[NDArray[np.float32]]) -> None:
        """Of every clip."""
        with torch.inference_mode():
            for wave in waves:
                self._files.log_mel(torch.from_numpy(wave))

    def steps(self, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Forward, backward and the optimiser's step on every batch of log-mels and labels or soft targets."""
        for log_mel, labels in batches:
            loss = nn.functional.cross_entropy(self._network(log_mel), labels)
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()

    def epoch(self) -> None:
        """Files to steps, and the checkpoint."""
        for batch in self._loader:
            self.steps([batch])
        torch.save([self._network.state_dict(), self._optimiser.state_dict()], self._folder / "plain.pt")
