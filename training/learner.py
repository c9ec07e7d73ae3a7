"""Train a network as a run's configuration says. training.run does it once, training.evaluate many times."""

import json
import time
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.compute import Compute
from training.data.clip_frames import ClipFrames, ClipSet
from training.data.splits import ClipSplit
from training.fit.checkpoint import load_tensors, save_tensors, write_text
from training.fit.clip_embeddings import clip_features, embed_clips, head_loss_and_accuracy
from training.fit.loop import fit
from training.fit.objectives import ClassObjective, JointObjective, Objective, VocabularyObjective
from training.fit.recipe import Epoch
from training.fit.whitening import fit_embedding, fit_head
from training.fit.workers import Workers
from training.listener import Listener
from training.networks import Network, TextHead, build_network
from training.pretraining import Where, pretrain
from training.published.audioset_classes import PublishedClassifier, published_classifier
from training.published.batchnorm_statistics import measure_statistics
from training.published.pretrained import load_pretrained
from training.recordings import Recordings
from training.run_folder import LAST, METRICS, WEIGHTS, RunConfig
from training.synthesis.vocabulary import VOCABULARY_SEED, Vocabulary, load_vocabulary
from training.text_encoders import text_encoder
from training.zeroshot_maps import centred_unit_rows

STATISTICS_WINDOWS = 64


@dataclass(frozen=True)
class Learner:
    """Trains networks on one data set; holds what all these trainings share.

    texts  [n_classes, text_size] float32: the encoder's vectors of the class descriptions, in the table's order
    init   file of the published weights that each training starts from; None exactly if the configuration's `init` is
    attributes  [n_classes, n_attributes] float32: those of the classes, in the table's order; None: unknown
    """

    recordings: Recordings
    texts: NDArray[np.float32]
    compute: Compute
    cache_dir: Path
    workers: Workers = field(default_factory=Workers)
    init: Path | None = None
    attributes: NDArray[np.float32] | None = None

    def learn(
        self,
        config: RunConfig,
        clips: ClipSplit,
        run: Path | None,
        resume: bool = False,
        listener: Listener = Listener(),  # noqa: B008 (frozen)
    ) -> tuple[Network, list[Epoch]]:
        """Train on `clips.train`. If `clips.validation` is not empty, it chooses the best epoch.

        run      folder for weights.safetensors, last.safetensors and metrics.jsonl; None: nothing is written
        resume   continue after the last finished epoch, if there is one
        returns  the network and its epochs; its embeddings of the training clips have a mean length of 1
        """
        if config.objective == "whitening":
            return self._whiten(config, clips, run, listener)
        resume = resume and run is not None and (run / LAST).is_file()  # without it no epoch was finished
        network, train, validation = self._prepare(config, clips)
        with self.workers.first_alone():  # it writes the cache; the others read it
            vocabulary = self.vocabulary(config) if config.vocabulary else None
        if self.init and not _load_published(network, self.init, listener) and not resume:
            measured, whose = (train.frames, train.clips), "of the training clips"
            if vocabulary:  # weights pretrained on it are shared by runs, so they must not depend on recordings
                measured, whose = (vocabulary.frames, np.arange(config.vocabulary)), "of the vocabulary's sounds"
            listener.say(
                "these weights have no BatchNorm statistics; they are measured on up to "
                f"{STATISTICS_WINDOWS} windows {whose}"
            )
            _measure_statistics(network, *measured, config)
        recipe = config.recipe
        crop = round(recipe.crop * config.window_frames)
        objective: Objective = ClassObjective(
            train, config.network.n_classes, recipe.mixup, recipe.gain_db, crop, recipe.mixing, recipe.speed
        )
        encoded = text_encoder(config.text)(vocabulary.texts) if vocabulary else None
        if vocabulary and encoded is not None and not resume:
            where = Where(self.cache_dir, self.compute, self.workers)
            pretrain(network, config, vocabulary, encoded, where, listener.on_pretraining, listener.say)
        if isinstance(network.head, TextHead):
            seen = [self.recordings.table.classes.index(name) for name in config.split.seen]
            mean = self.texts[seen].mean(axis=0)
            network.head.class_vectors.copy_(torch.from_numpy(centred_unit_rows(self.texts[seen], mean)))
            if vocabulary and encoded is not None:
                sounds = VocabularyObjective(vocabulary, centred_unit_rows(encoded, mean), crop)
                objective = JointObjective(objective, sounds)
        history = fit(
            network, objective, validation, config.recipe, config.seed, self.compute, run,
            listener.on_step, listener.on_epoch, resume, self.workers,
        )  # fmt: skip
        # The weights have it already if a finished run was resumed.
        if run is None or not load_tensors(run / WEIGHTS)[1].get("unit_length"):
            self._save_at_unit_length(network, embed_clips(network, train, self.compute.device), run)
        return network, history

    def learn_aside(self, config: RunConfig, clips: ClipSplit) -> Network:
        """Train as `learn`, and keep the network alone.

        Nothing is written: nobody resumes such a training, and the checkpoints of a hundred of them take terabytes.
        errors   UsageError: the device or the compiler lacks something, see `Compute.advice`
        """
        with self.compute.advice():
            return self.learn(config, clips, None)[0]

    def _prepare(self, config: RunConfig, clips: ClipSplit) -> tuple[Network, ClipSet, ClipSet | None]:
        """A network with random weights, the training clips, and the validation clips if there are any."""
        assert (self.init is None) == (config.init is None)
        train, validation = (
            self.recordings.clip_set(part, config.split.seen) for part in (clips.train, clips.validation)
        )
        torch.manual_seed(config.seed)
        return build_network(config.network), train, validation if clips.validation else None

    def _whiten(
        self, config: RunConfig, clips: ClipSplit, run: Path | None, listener: Listener
    ) -> tuple[Network, list[Epoch]]:
        """Fit the embedding and the head on the published features, which stay as they are. It counts as one epoch."""
        assert self.init is not None
        network, train, validation = self._prepare(config, clips)
        _load_published(network, self.init, listener)
        if config.map == "prototypes":
            if (known := self.classifier(config)) is not None:
                listener.say(f"{len(known.texts)} classes of AudioSet and the seen classes say where texts belong")
            else:
                others = "the lexicon and" if config.lexicon else "only"
                listener.say(f"these weights have no classifier: {others} the seen classes say where texts belong")
        started = time.perf_counter()
        device = self.compute.device
        network.to(device)
        features = clip_features(network, train, device)
        fit_embedding(network, features.numpy(), train.labels)
        with torch.inference_mode():  # the embedding is linear, so the mean over the windows may come first
            embeddings = network.embedding(features.to(device)).cpu()
        fit_head(network, embeddings.numpy(), train.labels)
        loss, accuracy = head_loss_and_accuracy(network, embeddings, train.labels, device)
        on_validation: tuple[float | None, float | None] = None, None
        if validation:
            held_back = embed_clips(network, validation, device)
            on_validation = head_loss_and_accuracy(network, held_back, validation.labels, device)
        seconds = time.perf_counter() - started
        done = Epoch(1, loss, accuracy, *on_validation, 0.0, seconds, len(train.clips) / seconds)
        self._save_at_unit_length(network, embeddings, run)
        if self.workers.first and run:
            write_text(run / METRICS, json.dumps(asdict(done)) + "\n")
        return network, [done]

    def embed(self, network: Network) -> NDArray[np.float32]:
        """The embeddings of all clips of the data set: [n_clips, 128]."""
        every_row = np.arange(len(self.recordings.table.clips))
        clips = ClipSet(self.recordings.frames, every_row, self.recordings.labels())
        return embed_clips(network, clips, self.compute.device).numpy()

    def classifier(self, config: RunConfig) -> PublishedClassifier | None:
        """The classifier of the published weights, if they have one and the map learns from it."""
        if self.init is None or config.map != "prototypes":
            return None
        return _classifier(self.init, config.text)

    def vocabulary(self, config: RunConfig) -> Vocabulary:
        """The synthesised sounds of the configuration, from the cache if it has them."""
        window = config.front_end.network_window(config.window_frames)
        return load_vocabulary(config.vocabulary, VOCABULARY_SEED, config.front_end, window, self.cache_dir)

    def _save_at_unit_length(self, network: Network, embeddings: Tensor, run: Path | None) -> None:
        """Scale the embedding layer so that embeddings of training clips have a mean length of 1, and save the weights.

        embeddings  [n_clips, 128] of the training clips
        run         None: they are not saved

        The class scores stay the same. The embeddings of all networks then have the same scale, so one bound for
        absolute differences fits all of them. Unscaled, mean lengths of about 10 are usual.
        """
        length = float(embeddings.norm(dim=1).mean())
        network.scale_embedding(1.0 / max(length, 1e-12))
        self.workers.wait()
        if self.workers.first and run:
            save_tensors(run / WEIGHTS, network.state_dict(), {"unit_length": True})


def _load_published(network: Network, weights: Path, listener: Listener) -> bool:
    """Load published weights into the network, and say which. Returns whether they have BatchNorm statistics."""
    report = load_pretrained(network, weights)
    for line in (report.line(), *report.warnings):
        listener.say(line)
    return report.statistics


@cache
def _classifier(path: Path, encoder: str) -> PublishedClassifier | None:
    """As `published_classifier`. Its names take two seconds, and a calibration asks for them 20 times."""
    return published_classifier(path, text_encoder(encoder))


def _measure_statistics(network: Network, frames: ClipFrames, clips: NDArray[np.int64], config: RunConfig) -> None:
    """Give published layers without BatchNorm statistics those of one random window of up to 64 clips."""
    rng = np.random.default_rng(config.seed)
    windows = frames.crop(rng.permutation(clips)[:STATISTICS_WINDOWS], rng, config.window_frames)
    published = [network.features] if config.network.name != "vggish" else [network.features, network.embedding]
    network.eval()
    measure_statistics(nn.Sequential(*published), torch.from_numpy(windows).unsqueeze(1))
    network.train()
