"""One training, from a run's configuration to a network: training.run does it once, training.evaluate often."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serving.errors import RunError
from serving.zeroshot import ZeroShot
from training.config import RunConfig
from training.data.file_lock import folder_lock
from training.data.splits import ClipSplit
from training.data.windows import ClipSet, Frames
from training.fit.checkpoint import load_tensors, save_tensors
from training.fit.clip_embeddings import embed_clips
from training.fit.loop import fit
from training.fit.objectives import ClassObjective, JointObjective, Objective, VocabularyObjective
from training.fit.recipe import Compute, Epoch, Recipe
from training.fit.workers import Workers
from training.networks import FRESH_WEIGHTS, Network, NetworkConfig, TextHead, build_network
from training.norms import measure_norms
from training.pretrained import load_pretrained
from training.recordings import Recordings
from training.run_folder import LAST, WEIGHTS
from training.synthesis.vocabulary import VERSION, Vocabulary, load_vocabulary
from training.text_encoders import text_encoder
from training.zeroshot_maps import Labelled, centred_unit_rows, class_vectors, fit_zeroshot, text_zeroshot

OnStep = Callable[[int, float], None]
OnEpoch = Callable[[Epoch], None]
NORM_WINDOWS = 64


@dataclass(frozen=True)
class Learner:
    """What all trainings of one recipe share.

    texts  [n_classes, text_size] float32: vectors of the class descriptions as encoded, in the table's order
    init   the published weights that each training starts from, if the configuration's `init` names some
    """

    recordings: Recordings
    texts: NDArray[np.float32]
    compute: Compute
    cache_dir: Path
    workers: Workers = field(default_factory=Workers)
    init: Path | None = None

    def learn(
        self,
        config: RunConfig,
        clips: ClipSplit,
        run: Path,
        resume: bool = False,
        on_step: OnStep = lambda epoch, share: None,
        on_epoch: OnEpoch = lambda done: None,
        on_pretraining: OnStep = lambda epoch, share: None,
        say: Callable[[str], None] = lambda line: None,
    ) -> tuple[Network, list[Epoch]]:
        """Train as `config` says on `clips.train`; `clips.validation`, if not empty, chooses the best epoch.

        run      the folder for weights.safetensors, last.safetensors and metrics.jsonl
        returns  the network, whose embeddings of the training clips have a mean length of 1, and the epochs
        """
        classes = config.split.seen
        train = self.recordings.clip_set(clips.train, classes)
        validation = self.recordings.clip_set(clips.validation, classes) if clips.validation else None
        torch.manual_seed(config.seed)
        network = build_network(config.network)
        vocabulary = self._vocabulary(config) if config.vocabulary else None
        assert (self.init is None) == (config.init is None)
        if self.init:
            report = load_pretrained(network, self.init)
            for line in (report.line(), *report.warnings):
                say(line)
            if not report.statistics and not resume:
                heard = (train.frames, train.clips)
                if vocabulary:  # what was learned from it is shared by runs, so no recording may take part
                    heard = (vocabulary.frames, np.arange(config.vocabulary))
                say(f"BatchNorm's statistics, which these weights lack, are of up to {NORM_WINDOWS} training windows")
                _measure_norms(network, *heard, config)
        recipe = config.recipe
        crop = round(recipe.crop * config.window_frames)
        objective: Objective = ClassObjective(train, len(classes), recipe.mixup, recipe.gain_db, crop, recipe.mixing)
        encoded = text_encoder(config.text)(vocabulary.texts) if vocabulary else None
        if vocabulary and encoded is not None and not resume:
            self._pretrain(network, config, vocabulary, encoded, on_pretraining, say)
        if isinstance(network.head, TextHead):
            seen = [self.recordings.table.classes.index(name) for name in classes]
            mean = self.texts[seen].mean(axis=0)
            network.head.class_vectors.copy_(torch.from_numpy(centred_unit_rows(self.texts[seen], mean)))
            if vocabulary and encoded is not None:
                sounds = VocabularyObjective(vocabulary, centred_unit_rows(encoded, mean), crop)
                objective = JointObjective(objective, sounds)
        history = fit(
            network, objective, validation, config.recipe, config.seed, self.compute, run,
            on_step, on_epoch, resume, self.workers,
        )  # fmt: skip
        self._scale_to_unit_length(network, train, run)
        return network, history

    def embed(self, network: Network) -> NDArray[np.float32]:
        """Embeddings of all clips of the data set: [n_clips, 128]."""
        every_row = np.arange(len(self.recordings.table.clips))
        clips = ClipSet(self.recordings.frames, every_row, self.recordings.labels())
        return embed_clips(network, clips, self.compute.device).numpy()

    def zeroshot(
        self, config: RunConfig, network: Network, train: Labelled, validation: Labelled | None = None
    ) -> ZeroShot:
        """The map from embeddings to the table's classes: the text head's own, or a closed-form one that is fitted.

        train, validation  embeddings [n, 128] of clips of seen classes; labels [n], indices into the table's classes
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
        """Set the network to weights pretrained on the vocabulary. They depend on no recording, so all runs share them.

        encoded  [n_sounds, text_size] float32: vectors of the vocabulary's descriptions
        """
        recipe = replace(pretraining_recipe(config), epochs=config.vocabulary_epochs)
        # The number of classes does not matter here, but the random weights depend on it: it is 1 for all runs.
        shape = NetworkConfig(config.network.name, 1, config.network.dropout, encoded.shape[1])
        folder = self.cache_dir / f"pretrained-{self._pretraining_key(config, shape, recipe, encoded)}"
        with self.workers.held_by_first(folder_lock(folder)):
            weights = _finished(folder, recipe.epochs)
            if weights is None:
                with self.workers.first_alone():
                    folder.mkdir(parents=True, exist_ok=True)
                torch.manual_seed(config.seed)
                pretrained = build_network(shape)
                if config.init:
                    pretrained.features.load_state_dict(network.features.state_dict())
                    pretrained.embedding.load_state_dict(network.embedding.state_dict())
                crop = round(recipe.crop * config.window_frames)
                objective = VocabularyObjective(vocabulary, centred_unit_rows(encoded, encoded.mean(axis=0)), crop)
                say(f"the acoustic vocabulary first: {config.vocabulary} synthesised sounds, {recipe.epochs} epochs")
                fit(
                    pretrained, objective, None, recipe, config.seed, self.compute, folder,
                    on_step, resume=_is_readable(folder / LAST), workers=self.workers,
                )  # fmt: skip
                weights = pretrained.state_dict()
        # A head of class numbers keeps its random weights. A text head takes all but the class vectors.
        left_out = "head.class_vectors" if config.network.text_size else "head."
        taken = {name: value for name, value in weights.items() if not name.startswith(left_out)}
        network.load_state_dict(taken, strict=False)

    def _pretraining_key(
        self, config: RunConfig, shape: NetworkConfig, recipe: Recipe, encoded: NDArray[np.float32]
    ) -> str:
        """Names the pretrained weights by all that they depend on."""
        depends = {"version": VERSION, "network": asdict(shape), "recipe": asdict(recipe), "seed": config.seed}
        depends |= {"fresh_weights": FRESH_WEIGHTS}
        depends |= {"text": config.text, "sounds": config.vocabulary, "front_end": asdict(config.front_end)}
        if ":" in config.text:  # a file or a folder, whose content may change
            depends["vectors"] = hashlib.sha256(encoded.tobytes()).hexdigest()
        depends |= {"init": config.init, "torch": torch.__version__, "compute": str(self.compute)}
        return fingerprint(depends)

    def _scale_to_unit_length(self, network: Network, train: ClipSet, run: Path) -> None:
        """Scale the embedding so that those of the training clips have a mean length of 1, and save the weights.

        The class scores stay the same. Embeddings of all networks then have one scale, on which a bound for absolute
        differences is meaningful: unscaled mean lengths of about 10 are usual.
        """
        if load_tensors(run / WEIGHTS)[1].get("unit_length"):
            return  # a finished run was resumed
        length = float(embed_clips(network, train, self.compute.device).norm(dim=1).mean())
        network.scale_embedding(1.0 / max(length, 1e-12))
        self.workers.wait()
        if self.workers.first:
            save_tensors(run / WEIGHTS, network.state_dict(), {"unit_length": True})


def _measure_norms(network: Network, frames: Frames, clips: NDArray[np.int64], config: RunConfig) -> None:
    """Let the layers that came without BatchNorm's statistics take those of a window of some of the clips."""
    rng = np.random.default_rng(config.seed)
    windows = frames.crop(rng.permutation(clips)[:NORM_WINDOWS], rng, config.window_frames)
    published = [network.features] if config.network.name != "vggish" else [network.features, network.embedding]
    network.eval()
    measure_norms(nn.Sequential(*published), torch.from_numpy(windows).unsqueeze(1))
    network.train()


def _finished(folder: Path, epochs: int) -> dict[str, Tensor] | None:
    """The pretrained weights in a cache folder; None if they are missing, damaged or not of so many epochs."""
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


def fingerprint(facts: dict[str, Any]) -> str:
    """A short hash of a JSON object: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def pretraining_recipe(config: RunConfig) -> Recipe:
    """How the vocabulary is learned: the run's crops, no mixup, because descriptions cannot be mixed."""
    return Recipe(epochs=12, batch_size=32, learning_rate=2e-3, crop=config.recipe.crop, mixup=0.0)
