"""What a training step minimises: the windows that it takes, their augmentation, and the loss over their embeddings.

ClassObjective       cross-entropy over the seen classes, with gain and mixup. With a TextHead the scores are cosines
                     to the vectors of the class descriptions
VocabularyObjective  sounds of the acoustic vocabulary against the words that describe them
JointObjective       a batch of clips and a batch of the vocabulary's sounds in each step
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.clip_frames import ClipSet
from training.fit.augment import (
    change_speed,
    draw_gains,
    draw_partners,
    draw_speeds,
    frames_read,
    mix_sounds,
    mixup,
    random_gain,
)
from training.fit.draws import Cutter, Draws, TensorDraws, as_tensors, cut_on_cpu
from training.networks import EMBEDDING_SIZE, Network, TextHead
from training.synthesis.vocabulary import Vocabulary

Targets = tuple[Tensor, ...]
MIXINGS = ("log-mel", "sound")  # what mixup mixes: log-mels, or magnitudes of sounds that are made equally loud
CLIPS, SOUNDS = "clips.", "sounds."  # before the names of the draws of JointObjective
WORD_GAIN_DB = 3.0  # small, because the words "quiet" and "loud" must stay true
WORD_TEMPERATURE = 0.05  # of the cosines between descriptions: near-synonyms share a target


class Objective(Protocol):
    """What `training.fit.loop.fit` needs."""

    @property
    def order(self) -> NDArray[np.int64]:
        """The rows of one epoch; a row may occur several times."""
        ...

    def draw(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Draws:
        """All that a batch of these rows takes from the generator and from the data set, but for the frames."""
        ...

    def make(self, draws: TensorDraws, cut: Cutter) -> tuple[Tensor, Targets]:
        """Augmented windows [batch, frames, 64] and their targets, on the device of the draws."""
        ...

    def loss(self, network: Network, embeddings: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """The loss, and the number of rows that were classified correctly. embeddings: of `Network.embed_guided`."""
        ...

    def finishing(self) -> "Objective":
        """The objective of the last epochs: whole windows as serving cuts them, without mixup; the same loss."""
        ...


@dataclass(frozen=True)
class ClassObjective:
    """Cross-entropy over the seen classes.

    mixup        alpha of the Beta distribution; 0 for none
    mixing       one of MIXINGS
    gain_db      largest random gain, up or down
    crop_frames  length of the random crops
    speed        largest change of speed; 1 for none
    """

    clips: ClipSet
    n_classes: int
    mixup: float
    gain_db: float
    crop_frames: int
    mixing: str = "log-mel"
    speed: float = 1.0

    @property
    def order(self) -> NDArray[np.int64]:
        """One crop for each window that is not silent, so that long clips count more than short ones."""
        return self._order

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.clips.clips)), self.clips.frames.count_heard(self.clips.clips))

    def draw(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Draws:
        """Crops, classes [batch, n_classes], gains and partners."""
        first = self.clips.frames.draw_crops(self.clips.clips[rows], rng, frames_read(self.crop_frames, self.speed))
        classes = np.eye(self.n_classes, dtype=np.float32)[self.clips.labels[rows]]
        draws: Draws = {"first": first, "classes": classes, "gains": draw_gains(rng, len(rows), self.gain_db)}
        if self.speed > 1:
            draws["speeds"] = draw_speeds(rng, len(rows), self.speed)
        if self.mixup:
            draws["share"], draws["other"] = draw_partners(rng, len(rows), self.mixup)
        return draws

    def make(self, draws: TensorDraws, cut: Cutter) -> tuple[Tensor, Targets]:
        """Windows, and targets [batch, n_classes] whose rows sum to 1."""
        frames, targets = self.clips.frames, draws["classes"]
        offset = frames.config.log_offset
        log_mel = cut(frames, draws["first"], frames_read(self.crop_frames, self.speed))
        if self.speed > 1:
            log_mel = change_speed(log_mel, draws["speeds"], self.crop_frames, frames.config)
        log_mel = random_gain(log_mel, draws["gains"], offset)
        if self.mixup:
            partners = draws["share"], draws["other"]
            if self.mixing == "sound":
                log_mel, targets = mix_sounds(log_mel, targets, *partners, offset)
            else:
                log_mel, targets = mixup(log_mel, targets, *partners)
        return log_mel, (targets,)

    def loss(self, network: Network, embeddings: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Cross-entropy, plus that of the guide if the network has one. Of a mixed row the larger share counts."""
        embeddings, guide_scores = embeddings[:, :EMBEDDING_SIZE], embeddings[:, EMBEDDING_SIZE:]
        scores = network.classify(embeddings)  # [batch, n_classes]
        (shares,) = targets
        loss = nn.functional.cross_entropy(scores, shares)
        if guide_scores.shape[1]:
            loss = loss + nn.functional.cross_entropy(guide_scores, shares)
        return loss, (scores.argmax(1) == shares.argmax(1)).sum()

    def finishing(self) -> "ClassObjective":
        """Whole windows without mixup, but with gain."""
        return replace(self, mixup=0.0, speed=1.0, crop_frames=self.clips.frames.window_frames)


@dataclass(frozen=True)
class VocabularyObjective:
    """Sounds against descriptions and descriptions against sounds: InfoNCE with soft targets.

    vectors  [n_sounds, text_size] float32 unit rows: the descriptions' vectors, centred as the class vectors are
    The targets are soft because two sounds may share words. Source: CLIP's loss (Radford 2021, arXiv:2103.00020),
    with targets from the similarity of the texts as in Gao 2023 (arXiv:2303.17561).
    """

    vocabulary: Vocabulary
    vectors: NDArray[np.float32]
    crop_frames: int

    @property
    def order(self) -> NDArray[np.int64]:
        """Each sound once."""
        return np.arange(len(self.vectors))

    def draw(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Draws:
        """Crops, gains, and the descriptions' vectors [batch, text_size]."""
        first = self.vocabulary.frames.draw_crops(rows, rng, self.crop_frames)
        return {"first": first, "gains": draw_gains(rng, len(rows), WORD_GAIN_DB), "texts": self.vectors[rows]}

    def make(self, draws: TensorDraws, cut: Cutter) -> tuple[Tensor, Targets]:
        """Windows, and their descriptions' vectors [batch, text_size]."""
        frames = self.vocabulary.frames
        log_mel = cut(frames, draws["first"], self.crop_frames)
        return random_gain(log_mel, draws["gains"], frames.config.log_offset), (draws["texts"],)

    def loss(self, network: Network, embeddings: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """The mean of both directions, and the number of sounds that are nearest to their own description."""
        head = network.head
        assert isinstance(head, TextHead)
        (texts,) = targets
        shares = nn.functional.softmax(texts @ texts.T / WORD_TEMPERATURE, dim=1)  # [batch, batch]
        scores = head.project(embeddings[:, :EMBEDDING_SIZE]) @ texts.T * head.scale
        both = nn.functional.cross_entropy(scores, shares) + nn.functional.cross_entropy(scores.T, shares)
        return both / 2, (scores.argmax(1) == torch.arange(len(scores), device=scores.device)).sum()

    def finishing(self) -> "VocabularyObjective":
        """Whole windows."""
        return replace(self, crop_frames=self.vocabulary.frames.window_frames)


@dataclass(frozen=True)
class JointObjective:
    """Clips of the seen classes, and as many sounds of the vocabulary, in each step."""

    classes: ClassObjective
    sounds: VocabularyObjective

    @property
    def order(self) -> NDArray[np.int64]:
        """The rows of the clips."""
        return self.classes.order

    def draw(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Draws:
        """The draws of the clips, and those of as many sounds."""
        chosen = rng.choice(self.sounds.order, len(rows), replace=len(rows) > len(self.sounds.order))
        clips = self.classes.draw(rows, rng)
        sounds = self.sounds.draw(chosen, rng)
        return {CLIPS + name: each for name, each in clips.items()} | {
            SOUNDS + name: each for name, each in sounds.items()
        }

    def make(self, draws: TensorDraws, cut: Cutter) -> tuple[Tensor, Targets]:
        """The clips' windows first, then the sounds'."""
        log_mel, (targets,) = self.classes.make(_part(draws, CLIPS), cut)
        sounds, (texts,) = self.sounds.make(_part(draws, SOUNDS), cut)
        return torch.cat([log_mel, sounds]), (targets, texts)

    def loss(self, network: Network, embeddings: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """The sum of both losses, and the number of clips that were classified correctly."""
        shares, texts = targets
        of_clips, n_correct = self.classes.loss(network, embeddings[: len(shares)], (shares,))
        of_sounds, _ = self.sounds.loss(network, embeddings[len(shares) :], (texts,))
        return of_clips + of_sounds, n_correct

    def finishing(self) -> "JointObjective":
        """Whole windows of both, without mixup."""
        return JointObjective(self.classes.finishing(), self.sounds.finishing())


def _part(draws: TensorDraws, prefix: str) -> TensorDraws:
    return {name.removeprefix(prefix): each for name, each in draws.items() if name.startswith(prefix)}


def make_batch(objective: Objective, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Targets]:
    """Draw and make a batch of these rows on the CPU: augmented windows [batch, frames, 64], and their targets."""
    return objective.make(as_tensors(objective.draw(rows, rng)), cut_on_cpu)
