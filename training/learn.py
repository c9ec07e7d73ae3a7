"""One training, from a run's configuration to a network: what training.run does once and training.evaluate often."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serving.audio import warn_in_python
from serving.errors import RunError
from serving.zeroshot import ZeroShot
from training.alone import alone
from training.checkpoint import LAST, WEIGHTS, load_tensors, save_tensors
from training.config import RunConfig
from training.data.clips import Clip, ClipTable
from training.data.splits import ClipSplit
from training.data.vocabulary import VERSION, Vocabulary, load_vocabulary
from training.data.windows import ClipSet, Frames, load_frames
from training.loop import Epoch, Machine, Recipe, embed_clips, fit
from training.networks import FRESH_WEIGHTS, Network, NetworkConfig, TextHead, build_network
from training.objectives import Both, Classes, Objective, Words, word_vectors
from training.pretrained import load_pretrained
from training.text import text_encoder
from training.workers import Workers
from training.zeroshot import class_vectors, fit_zeroshot, text_zeroshot

Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]
OnStep = Callable[[int, float], None]
OnEpoch = Callable[[Epoch], None]


@dataclass(frozen=True)
class Recordings:
    """A data set's clips and their log-mel frames, in the same order."""

    table: ClipTable
    frames: Frames

    def labels(self) -> NDArray[np.int64]:
        """[n_clips], indices into the table's classes."""
        return np.array([clip.label for clip in self.table.clips], dtype=np.int64)

    def clip_set(self, part: tuple[Clip, ...], classes: tuple[str, ...]) -> ClipSet:
        """Some of the clips, their labels counted among `classes`."""
        rows = {clip.path: row for row, clip in enumerate(self.table.clips)}
        labels = [classes.index(self.table.classes[clip.label]) for clip in part]
        return ClipSet(self.frames, np.array([rows[clip.path] for clip in part], np.int64), np.array(labels, np.int64))


def load_recordings(
    config: RunConfig, table: ClipTable, cache_dir: Path, warn: Callable[[str], None] = warn_in_python
) -> Recordings:
    """The table's clips as the run's front end hears them, from the cache where it has them; see `load_frames`."""
    window = config.front_end.network_window(config.window_frames)
    return Recordings(table, load_frames(table.clips, config.front_end, window, cache_dir, warn))


@dataclass(frozen=True)
class Learner:
    """All that trainings of one recipe share.

    texts  [n_classes, text_size] float32: the descriptions' vectors of the table's classes, as encoded
    """

    recordings: Recordings
    texts: NDArray[np.float32]
    machine: Machine
    cache_dir: Path
    workers: Workers = field(default_factory=Workers)

    def learn(
        self,
        config: RunConfig,
        clips: ClipSplit,
        run: Path,
        init: Path | None = None,
        resume: bool = False,
        on_step: OnStep = lambda epoch, share: None,
        on_epoch: OnEpoch = lambda done: None,
        on_pretraining: OnStep = lambda epoch, share: None,
        say: Callable[[str], None] = lambda line: None,
    ) -> tuple[Network, list[Epoch]]:
        """Train as `config` says on `clips.train`; `clips.validation`, where it has any, chooses the epoch.

        run      the folder that gets weights.safetensors, last.safetensors and metrics.jsonl
        init     published weights to start from
        returns  the network, its embeddings of unit mean length, and the epochs
        """
        classes = config.split.seen
        train = self.recordings.clip_set(clips.train, classes)
        validation = self.recordings.clip_set(clips.validation, classes) if clips.validation else None
        torch.manual_seed(config.seed)
        network = build_network(config.network)
        if init:
            report = load_pretrained(network, init)
            for line in (report.line(), *report.warnings):
                say(line)
        recipe = config.recipe
        crop = round(recipe.crop * config.window_frames)
        objective: Objective = Classes(train, len(classes), recipe.mixup, recipe.gain_db, crop, recipe.mixing)
        vocabulary = self._vocabulary(config) if config.vocabulary else None
        encoded = text_encoder(config.text)(vocabulary.texts) if vocabulary else None
        if vocabulary and encoded is not None and not resume:
            self._pretrain(network, config, vocabulary, encoded, on_pretraining, say)
        if isinstance(network.head, TextHead):
            seen = [self.recordings.table.classes.index(name) for name in classes]
            mean = self.texts[seen].mean(axis=0)
            network.head.class_vectors.copy_(torch.from_numpy(word_vectors(self.texts[seen], mean)))
            if vocabulary and encoded is not None:
                objective = Both(objective, Words(vocabulary, word_vectors(encoded, mean), crop))
        history = fit(
            network, objective, validation, config.recipe, config.seed, self.machine, run,
            on_step, on_epoch, resume, self.workers,
        )  # fmt: skip
        self._scale_to_unit_length(network, train, run)
        return network, history

    def embed(self, network: Network) -> NDArray[np.float32]:
        """Every clip of the data set: [n_clips, 128]."""
        everything = np.arange(len(self.recordings.table.clips))
        clips = ClipSet(self.recordings.frames, everything, self.recordings.labels())
        return embed_clips(network, clips, self.machine.device).numpy()

    def zeroshot(
        self, config: RunConfig, network: Network, train: Labelled, validation: Labelled | None = None
    ) -> ZeroShot:
        """The map from embeddings to the table's classes: the text head's own, or the closed-form one, fitted.

        train, validation  embeddings [n, 128] of clips of seen classes, and labels [n] among all the table's classes
        """
        classes = self.recordings.table.classes
        seen = np.isin(classes, config.split.seen)
        if isinstance(network.head, TextHead):
            return text_zeroshot(classes, seen, self.texts, network.head)
        assert config.map is not None
        return fit_zeroshot(classes, seen, class_vectors(self.texts, seen), train, validation, config.map)

    def _vocabulary(self, config: RunConfig) -> Vocabulary:
        window = config.front_end.network_window(config.window_frames)
        with self.workers.first_alone():
            return load_vocabulary(config.vocabulary, 0, config.front_end, window, self.cache_dir)

    def _pretrain(
        self,
        network: Network,
        config: RunConfig,
        vocabulary: Vocabulary,
        encoded: NDArray[np.float32],
        on_step: OnStep,
        say: Callable[[str], None],
    ) -> None:
        """Let the network learn the vocabulary first. No recording takes part, so that all runs can share it."""
        recipe = replace(pretraining_recipe(config), epochs=config.vocabulary_epochs)
        # Neither the number of classes nor their vectors matter here, but the fresh weights depend on the number.
        learner = NetworkConfig(config.network.name, 1, config.network.dropout, encoded.shape[1])
        depends = {"version": VERSION, "network": asdict(learner), "recipe": asdict(recipe), "seed": config.seed}
        depends |= {"fresh_weights": FRESH_WEIGHTS}
        depends |= {"text": config.text, "sounds": config.vocabulary, "front_end": asdict(config.front_end)}
        if ":" in config.text:  # another file may come to lie in that place
            depends["vectors"] = hashlib.sha256(encoded.tobytes()).hexdigest()
        depends |= {"init": config.init, "torch": torch.__version__, "machine": str(self.machine)}
        folder = self.cache_dir / f"pretrained-{fingerprint(depends)}"
        with self.workers.led(alone(folder)):
            learned = _finished(folder, recipe.epochs)
            if learned is None:
                with self.workers.first_alone():
                    folder.mkdir(parents=True, exist_ok=True)
                torch.manual_seed(config.seed)
                pupil = build_network(learner)
                if config.init:
                    pupil.features.load_state_dict(network.features.state_dict())
                    pupil.embedding.load_state_dict(network.embedding.state_dict())
                crop = round(recipe.crop * config.window_frames)
                words = Words(vocabulary, word_vectors(encoded, encoded.mean(axis=0)), crop)
                say(f"the acoustic vocabulary first: {config.vocabulary} synthesised sounds, {recipe.epochs} epochs")
                fit(
                    pupil, words, None, recipe, config.seed, self.machine, folder,
                    on_step, resume=_readable(folder / LAST), workers=self.workers,
                )  # fmt: skip
                learned = pupil.state_dict()
        # A head of class numbers begins anew; of a head that compares with texts only the texts are others.
        kept = "head.class_vectors" if config.network.text_size else "head."
        network.load_state_dict({name: value for name, value in learned.items() if not name.startswith(kept)}, False)

    def _scale_to_unit_length(self, network: Network, train: ClipSet, run: Path) -> None:
        """Scale the embedding so that the training clips' have a mean length of 1, and save the weights again.

        The class scores stay the same. It gives the embeddings of every network one scale, on which an absolute
        difference means something: before, a mean length of 10 was usual, and any bound on it arbitrary.
        """
        if load_tensors(run / WEIGHTS)[1].get("unit_length"):
            return  # a finished run that was resumed
        length = float(embed_clips(network, train, self.machine.device).norm(dim=1).mean())
        network.scale_embedding(1.0 / max(length, 1e-12))
        self.workers.wait()
        if self.workers.first:
            save_tensors(run / WEIGHTS, network.state_dict(), {"unit_length": True})


def _finished(folder: Path, epochs: int) -> dict[str, Tensor] | None:
    """The network that learned the vocabulary for so many epochs; None where there is none yet."""
    try:
        learned, facts = load_tensors(folder / WEIGHTS)
    except RunError:
        return None
    return learned if facts.get("epoch") == epochs else None


def _readable(path: Path) -> bool:
    """Whether a checkpoint is there, and whole; it is the cache's, so a damaged one is only made again."""
    try:
        load_tensors(path)
    except RunError:
        return False
    return True


def fingerprint(facts: dict[str, Any]) -> str:
    """A short name for these facts, other for other facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def pretraining_recipe(config: RunConfig) -> Recipe:
    """How the vocabulary is learned: the run's crops, no mixing of sounds whose words would not mix."""
    return Recipe(epochs=12, batch_size=32, learning_rate=2e-3, crop=config.recipe.crop, mixup=0.0)
