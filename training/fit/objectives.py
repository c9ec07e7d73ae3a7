"""What a training step minimises: which windows it takes, how it changes them, and the loss over their embeddings.

Classes   cross-entropy over the seen classes, with gain and mixup. With a TextHead the scores are cosines to the
          class descriptions' vectors: the targets are made of text
Words     an acoustic vocabulary: each sound is to be near the words that describe it
Both      a batch of clips and a batch of the vocabulary's sounds in one step
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serving.zeroshot import unit_rows
from training.data.windows import ClipSet
from training.fit.augment import mix_sounds, mixup, random_gain
from training.networks import EMBEDDING_SIZE, Network, TextHead
from training.synthesis.vocabulary import Vocabulary

Targets = tuple[Tensor, ...]
MIXINGS = ("log-mel", "sound")  # what mixup mixes: log-mels, or the sounds themselves, made equally loud
WORD_GAIN_DB = 3.0  # little, for the words "quiet" and "loud" must stay true
WORD_TEMPERATURE = 0.05  # of the cosines between descriptions: near-synonyms share a target


class Objective(Protocol):
    """What `training.fit.loop.fit` needs."""

    @property
    def order(self) -> NDArray[np.int64]:
        """The rows of one epoch; a row may occur several times."""
        ...

    def batch(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Targets]:
        """Windows [batch, frames, 64] and what belongs to them, on the CPU."""
        ...

    def loss(self, network: Network, embeddings: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """The loss, and how many rows of `order` were right. embeddings: of `Network.embed_guided`."""
        ...

    def finishing(self) -> "Objective":
        """The same for the last epochs: windows as serving cuts them, whole and unmixed. The loss is the same."""
        ...


@dataclass(frozen=True)
class Classes:
    """Cross-entropy over the seen classes.

    mixup        alpha of the Beta distribution; 0 is none
    mixing       one of MIXINGS
    gain_db      largest random gain, either way
    crop_frames  of a random crop
    """

    clips: ClipSet
    n_classes: int
    mixup: float
    gain_db: float
    crop_frames: int
    mixing: str = "log-mel"

    @property
    def order(self) -> NDArray[np.int64]:
        """One crop for each window that serving would cut: an epoch sees as much sound as the clips have."""
        return np.repeat(np.arange(len(self.clips.clips)), self.clips.frames.windows[self.clips.clips])

    def batch(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Targets]:
        """Windows and targets [batch, n_classes] whose rows sum to 1."""
        frames = self.clips.frames
        log_mel = torch.from_numpy(frames.crop(self.clips.clips[rows], rng, self.crop_frames))
        labels = torch.from_numpy(self.clips.labels[rows])
        targets = nn.functional.one_hot(labels, self.n_classes).float()
        log_mel = random_gain(log_mel, rng, self.gain_db, frames.config.log_offset)
        if self.mixing == "sound":
            log_mel, targets = mix_sounds(log_mel, targets, rng, self.mixup, frames.config.log_offset)
        else:
            log_mel, targets = mixup(log_mel, targets, rng, self.mixup)
        return log_mel, (targets,)

    def loss(self, network: Network, embeddings: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Cross-entropy, the guide's on top where there is one, and how many rows' best class is their larger share."""
        embeddings, guided = embeddings[:, :EMBEDDING_SIZE], embeddings[:, EMBEDDING_SIZE:]
        scores = network.classify(embeddings)  # [batch, n_classes]
        (wanted,) = targets
        loss = nn.functional.cross_entropy(scores, wanted)
        if guided.shape[1]:
            loss = loss + nn.functional.cross_entropy(guided, wanted)
        return loss, (scores.argmax(1) == wanted.argmax(1)).sum()

    def finishing(self) -> "Classes":
        """Whole windows, unmixed; the gain stays."""
        return replace(self, mixup=0.0, crop_frames=self.clips.frames.window_frames)


@dataclass(frozen=True)
class Words:
    """Sounds against descriptions, both ways: InfoNCE with soft targets, for two sounds may share their words.

    vectors  [n_sounds, text_size] float32 unit rows: the descriptions', centred as the class vectors are
    Source: CLIP's loss (Radford 2021, arXiv:2103.00020), its targets softened by the texts' own similarity as in
    Gao 2023 (arXiv:2303.17561).
    """

    vocabulary: Vocabulary
    vectors: NDArray[np.float32]
    crop_frames: int

    @property
    def order(self) -> NDArray[np.int64]:
        """Each sound once."""
        return np.arange(len(self.vectors))

    def batch(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Targets]:
        """Windows and their descriptions' vectors [batch, text_size]."""
        frames = self.vocabulary.frames
        log_mel = torch.from_numpy(frames.crop(rows, rng, self.crop_frames))
        log_mel = random_gain(log_mel, rng, WORD_GAIN_DB, frames.config.log_offset)
        return log_mel, (torch.from_numpy(self.vectors[rows]),)

    def loss(self, network: Network, embeddings: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """The mean of both ways, and how many sounds are nearest to their own description."""
        head = network.head
        assert isinstance(head, TextHead)
        (texts,) = targets
        wanted = nn.functional.softmax(texts @ texts.T / WORD_TEMPERATURE, dim=1)  # [batch, batch]
        scores = head.project(embeddings) @ texts.T * head.scale
        both = nn.functional.cross_entropy(scores, wanted) + nn.functional.cross_entropy(scores.T, wanted)
        return both / 2, (scores.argmax(1) == torch.arange(len(scores), device=scores.device)).sum()

    def finishing(self) -> "Words":
        """Whole windows."""
        return replace(self, crop_frames=self.vocabulary.frames.window_frames)


@dataclass(frozen=True)
class Both:
    """Clips of the seen classes, and as many sounds of the vocabulary, in each step."""

    classes: Classes
    words: Words

    @property
    def order(self) -> NDArray[np.int64]:
        """The clips'."""
        return self.classes.order

    def batch(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Targets]:
        """The clips' windows first, then the sounds'."""
        sounds = rng.choice(self.words.order, len(rows), replace=len(rows) > len(self.words.order))
        log_mel, (targets,) = self.classes.batch(rows, rng)
        heard, (texts,) = self.words.batch(sounds, rng)
        return torch.cat([log_mel, heard]), (targets, texts)

    def loss(self, network: Network, embeddings: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """The sum of both losses; right are the clips."""
        wanted, texts = targets
        classes, right = self.classes.loss(network, embeddings[: len(wanted)], (wanted,))
        words, _ = self.words.loss(network, embeddings[len(wanted) :], (texts,))
        return classes + words, right

    def finishing(self) -> "Both":
        """Whole windows of both, the clips unmixed."""
        return Both(self.classes.finishing(), self.words.finishing())


def word_vectors(texts: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Descriptions' vectors [n, text_size], centred on the class vectors' mean [text_size], of unit length."""
    return unit_rows(texts - mean)
