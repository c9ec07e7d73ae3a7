"""Train a network as a run's configuration says. training.run does it once, training.evaluate many times."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serving.zeroshot import ZeroShot
from training.compute import Compute
from training.data.class_attributes import have_half
from training.data.clip_frames import ClipFrames, ClipSet
from training.data.splits import ClipSplit
from training.fit.checkpoint import load_tensors, save_tensors, write_text
from training.fit.clip_embeddings import clip_features, embed_clips, head_loss_and_accuracy
from training.fit.loop import fit
from training.fit.objectives import ClassObjective, JointObjective, Objective, VocabularyObjective
from training.fit.recipe import Epoch
from training.fit.teachers import Teachers
from training.fit.whitening import fit_embedding, fit_head
from training.fit.workers import Workers
from training.lexicon import load_lexicon
from training.networks import Network, TextHead, build_network
from training.pretraining import Where, pretrain
from training.prototype_map import ClassSide
from training.published.audioset_classes import PublishedClassifier, published_classifier
from training.published.batchnorm_statistics import measure_statistics
from training.published.pretrained import load_pretrained
from training.recordings import Recordings
from training.regression import Anchors, centred_anchors
from training.run_folder import LAST, METRICS, TEACHER, WEIGHTS, RunConfig
from training.synthesis.vocabulary import Vocabulary, load_vocabulary
from training.synthesis.vocabulary_attributes import sound_attributes
from training.text_encoders import text_encoder
from training.zeroshot_maps import Labelled, centred_unit_rows, class_vectors, fit_zeroshot, text_zeroshot

OnStep = Callable[[int, float], None]
OnEpoch = Callable[[Epoch], None]
OnTeacher = Callable[[int, int, float], None]
Say = Callable[[str], None]
STATISTICS_WINDOWS = 64
SEEDS_APART = 1000  # between a network and its teachers, so that seeds 0 to 999 have teachers of their own


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
        run: Path,
        resume: bool = False,
        on_step: OnStep = lambda epoch, share: None,
        on_epoch: OnEpoch = lambda done: None,
        on_pretraining: OnStep = lambda epoch, share: None,
        on_teacher: OnTeacher = lambda number, epoch, share: None,
        say: Say = lambda line: None,
    ) -> tuple[Network, list[Epoch]]:
        """Train on `clips.train`, after the configuration's teachers. `clips.validation` chooses the best epoch.

        run             folder for weights.safetensors, last.safetensors and metrics.jsonl
        resume          continue after the last finished epoch, if there is one
        on_step         called with the epoch and the share of it that is done; on_pretraining: likewise, for the
                        vocabulary; on_teacher: likewise, after the teacher's number
        on_epoch        called after each epoch
        say             called with lines for the user
        returns         the network and its epochs; its embeddings of the training clips have a mean length of 1
        """
        taught = []
        for number in range(1, config.teachers + 1):
            folder = run / f"{TEACHER}{number}"
            folder.mkdir(exist_ok=True)
            seed = config.seed + number * SEEDS_APART
            on_its_step = partial(on_teacher, number)
            network, _ = self._train(config, clips, folder, seed, resume, on_its_step, on_pretraining, say=say)
            taught.append(network.eval())
            say = _nothing_new
        teachers = Teachers(tuple(taught), self.compute) if taught else None
        return self._train(config, clips, run, config.seed, resume, on_step, on_pretraining, on_epoch, say, teachers)

    def _train(
        self,
        config: RunConfig,
        clips: ClipSplit,
        run: Path,
        seed: int,
        resume: bool,
        on_step: OnStep,
        on_pretraining: OnStep,
        on_epoch: OnEpoch = lambda done: None,
        say: Say = lambda line: None,
        teachers: Teachers | None = None,
    ) -> tuple[Network, list[Epoch]]:
        """As `learn`, for one network. seed: of its random numbers; the vocabulary was learned with config.seed."""
        resume = resume and (run / LAST).is_file()  # without it no epoch was finished
        classes = config.split.seen
        train = self.recordings.clip_set(clips.train, classes)
        validation = self.recordings.clip_set(clips.validation, classes) if clips.validation else None
        torch.manual_seed(seed)
        network = build_network(config.network)
        with self.workers.first_alone():  # it writes the cache; the others read it
            vocabulary = self._vocabulary(config) if config.vocabulary else None
        assert (self.init is None) == (config.init is None)
        if self.init:
            report = load_pretrained(network, self.init)
            for line in (report.line(), *report.warnings):
                say(line)
            if config.objective == "whitening":
                if config.map == "prototypes":
                    known = self.classifier(config)
                    if known is not None:
                        say(f"{len(known.texts)} classes of AudioSet and the seen classes say where texts belong")
                    else:
                        others = "the lexicon and" if config.lexicon else "only"
                        say(f"these weights have no classifier: {others} the seen classes say where texts belong")
                return network, self._whiten(network, train, validation, run)
            if not report.statistics and not resume:
                measured = (train.frames, train.clips)
                if vocabulary:  # weights pretrained on it are shared by runs, so they must not depend on recordings
                    measured = (vocabulary.frames, np.arange(config.vocabulary))
                say(
                    "these weights have no BatchNorm statistics; they are measured on up to "
                    f"{STATISTICS_WINDOWS} training windows"
                )
                _measure_statistics(network, *measured, config)
        recipe = config.recipe
        crop = round(recipe.crop * config.window_frames)
        objective: Objective = ClassObjective(
            train, len(classes), recipe.mixup, recipe.gain_db, crop, recipe.mixing, recipe.speed, teachers
        )
        encoded = text_encoder(config.text)(vocabulary.texts) if vocabulary else None
        if vocabulary and encoded is not None and not resume:
            where = Where(self.cache_dir, self.compute, self.workers)
            pretrain(network, config, vocabulary, encoded, where, on_pretraining, say)
        if isinstance(network.head, TextHead):
            seen = [self.recordings.table.classes.index(name) for name in classes]
            mean = self.texts[seen].mean(axis=0)
            network.head.class_vectors.copy_(torch.from_numpy(centred_unit_rows(self.texts[seen], mean)))
            if vocabulary and encoded is not None:
                sounds = VocabularyObjective(vocabulary, centred_unit_rows(encoded, mean), crop)
                objective = JointObjective(objective, sounds)
        history = fit(
            network, objective, validation, config.recipe, seed, self.compute, run,
            on_step, on_epoch, resume, self.workers,
        )  # fmt: skip
        if not load_tensors(run / WEIGHTS)[1].get("unit_length"):  # it has it if a finished run was resumed
            self._save_at_unit_length(network, embed_clips(network, train, self.compute.device), run)
        return network, history

    def _whiten(self, network: Network, train: ClipSet, validation: ClipSet | None, run: Path) -> list[Epoch]:
        """Fit the embedding and the head on the published features, which stay as they are. It counts as one epoch."""
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
        if self.workers.first:
            write_text(run / METRICS, json.dumps(asdict(done)) + "\n")
        return [done]

    def embed(self, network: Network) -> NDArray[np.float32]:
        """The embeddings of all clips of the data set: [n_clips, 128]."""
        every_row = np.arange(len(self.recordings.table.clips))
        clips = ClipSet(self.recordings.frames, every_row, self.recordings.labels())
        return embed_clips(network, clips, self.compute.device).numpy()

    def zeroshot(
        self, config: RunConfig, network: Network, train: Labelled, validation: Labelled | None = None
    ) -> ZeroShot:
        """The map from embeddings to the table's classes: the text head's projection, or a fitted closed-form map.

        train, validation  clips of seen classes: embeddings [n, 128], labels [n] that index the table's classes
        """
        seen = np.isin(self.recordings.table.classes, config.split.seen)
        classes = self.class_side(seen)
        if isinstance(network.head, TextHead):
            classes = self._with_sounds(self.with_words(classes, config), config, network)
            return text_zeroshot(classes, network.head, train, validation)
        assert config.map is not None
        matrix = None
        if config.objective == "whitening":
            linear = network.embedding[0]
            assert isinstance(linear, nn.Linear)
            matrix = linear.weight.detach().cpu().numpy().T
        return fit_zeroshot(self.with_words(classes, config, matrix), train, validation, config.map)

    def described_sounds(self, config: RunConfig) -> tuple[ClipFrames, NDArray[np.float32]] | None:
        """The vocabulary that a network learns beside the recordings, and its attributes [n_sounds, n_attributes].

        None: it learns none, the classes have no attributes, or their attributes have other names
        """
        if self.attributes is None or config.objective != "text" or not config.vocabulary:
            return None
        vocabulary = self._vocabulary(config)
        known = sound_attributes(vocabulary.qualities, config.attribute_columns)
        return None if known is None else (vocabulary.frames, known)

    def _with_sounds(self, classes: ClassSide, config: RunConfig, network: Network) -> ClassSide:
        """The same with the sounds that the network has learned beside the recordings."""
        if not config.vocabulary or (classes.attributes is None and classes.words is None):
            return classes
        vocabulary = self._vocabulary(config)
        n_sounds = len(vocabulary.qualities)
        every = ClipSet(vocabulary.frames, np.arange(n_sounds), np.zeros(n_sounds, np.int64))
        embeddings = embed_clips(network, every, self.compute.device).numpy()

        def described(columns: Sequence[str]) -> Anchors | None:
            known = sound_attributes(vocabulary.qualities, columns)
            return None if known is None else centred_anchors(known, embeddings)

        words = classes.words and replace(classes.words, sounds=described(classes.words.columns))
        return replace(classes, sounds=described(config.attribute_columns), words=words)

    def class_side(self, seen: NDArray[np.bool_]) -> ClassSide:
        """What is known of the table's classes without a recording, where `seen` [n_classes] are trained on."""
        attributes = None if self.attributes is None else class_vectors(self.attributes, seen)
        return ClassSide(self.recordings.table.classes, seen, class_vectors(self.texts, seen), attributes)

    def with_words(
        self, classes: ClassSide, config: RunConfig, matrix: NDArray[np.floating] | None = None
    ) -> ClassSide:
        """The same with what says where words belong: the classes of published weights, or else the lexicon.

        Published classes say it better: docs/results/labels.md. The lexicon guesses their attributes from their names,
        and they then teach what attributes mean.
        matrix   [n_features, D]: the embedding is features @ matrix; None: the network has been trained
        """
        seen = classes.seen
        # Where a class is unseen: everyday sounds alone, none of which is a class of ESC-50 or FSC22.
        lexicon = load_lexicon(config.text, config.class_texts, bool(seen.all())) if config.lexicon else None
        if matrix is not None and (classifier := self.classifier(config)) is not None:
            published, guessed = classifier.under(matrix), None
            if lexicon is not None and have_half(config.attribute_columns, lexicon.columns):
                attributes = lexicon.guess(classifier.texts, config.attribute_columns)
                guessed = centred_anchors(attributes, published.directions)
            return replace(classes, published=published, sounds=guessed)
        if lexicon is None:
            return classes
        known = [config.attributes[name] for name in config.classes] if config.attributes else None
        return replace(classes, words=lexicon.words(self.texts, seen, known))

    def classifier(self, config: RunConfig) -> PublishedClassifier | None:
        """The classifier of the published weights, if they have one and the map learns from it."""
        if self.init is None or config.map != "prototypes":
            return None
        return _classifier(self.init, config.text)

    def _vocabulary(self, config: RunConfig) -> Vocabulary:
        window = config.front_end.network_window(config.window_frames)
        return load_vocabulary(config.vocabulary, 0, config.front_end, window, self.cache_dir)

    def _save_at_unit_length(self, network: Network, embeddings: Tensor, run: Path) -> None:
        """Scale the embedding layer so that embeddings of training clips have a mean length of 1, and save the weights.

        embeddings  [n_clips, 128] of the training clips

        The class scores stay the same. The embeddings of all networks then have the same scale, so one bound for
        absolute differences fits all of them. Unscaled, mean lengths of about 10 are usual.
        """
        length = float(embeddings.norm(dim=1).mean())
        network.scale_embedding(1.0 / max(length, 1e-12))
        self.workers.wait()
        if self.workers.first:
            save_tensors(run / WEIGHTS, network.state_dict(), {"unit_length": True})


def _nothing_new(line: str) -> None:
    """What a network says after its first teacher has said it."""


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
