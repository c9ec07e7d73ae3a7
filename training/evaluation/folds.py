"""Repeat a recipe over a data set's recording folds and seeds: accuracy on the classes that it was trained on."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from training.data.file_lock import folder_lock
from training.evaluation.controls import clip_statistics, ridge_classifier
from training.fit.checkpoint import write_text
from training.fit.clip_embeddings import head_loss_and_accuracy
from training.learner import Learner
from training.map_fit import fit_map
from training.run_folder import RunConfig
from training.zeroshot_maps import accuracy


@dataclass(frozen=True)
class FoldScore:
    """Accuracies, 0 to 1, on one recording fold after training on the others.

    accuracy      of the training head
    statistics    of the control without a network: ridge regression from log-mel statistics to the classes
    map_accuracy  of the zero-shot map over the seen classes, by which a bundle ranks
    """

    fold: int
    seed: int
    accuracy: float
    statistics: float
    map_accuracy: float


class Folds:
    """A recipe, repeated over the folds. Scores are stored in `folder`; those that are there are not computed again.

    Processes may share the folder: one of them computes a score, and the others wait for it.
    numbers   of the folds that have clips of seen classes, ascending
    """

    def __init__(self, learner: Learner, base: RunConfig, folder: Path):
        self.learner = learner
        self.base = base
        self.folder = folder
        self.statistics = clip_statistics(learner.recordings.frames)
        self.numbers = learner.recordings.table.folds_of(base.split.seen)

    def run(self, fold: int, seed: int) -> None:
        """Train on the other folds and score this one, unless the score is stored."""
        path = self._path(fold, seed)
        with folder_lock(path):
            if not path.is_file():
                write_text(path, json.dumps(asdict(self._score(fold, seed))))

    def finished(self) -> list[FoldScore]:
        """The stored scores of the seeds that have every fold, also those of other commands."""
        seeds = sorted({int(path.stem.rpartition("-")[2]) for path in self.folder.glob("fold-*.json")})
        of_seeds = [[self._path(fold, seed) for fold in self.numbers] for seed in seeds]
        complete = [paths for paths in of_seeds if all(map(Path.is_file, paths))]
        return [FoldScore(**json.loads(path.read_text())) for paths in complete for path in paths]

    def _path(self, fold: int, seed: int) -> Path:
        return self.folder / f"fold-{fold}-seed-{seed}.json"

    def _score(self, fold: int, seed: int) -> FoldScore:
        recordings = self.learner.recordings
        config = replace(self.base, test_fold=fold, seed=seed)
        clips = config.clips(recordings.table)
        network = self.learner.learn_aside(config, clips)
        embeddings = self.learner.embed(network)
        train, test = (recordings.clip_set(part, config.classes) for part in (clips.train, clips.test))
        zeroshot = fit_map(self.learner, config, network, (embeddings[train.clips], train.labels))
        among_seen = recordings.clip_set(clips.test, config.split.seen).labels
        rows = embeddings[test.clips]
        head = head_loss_and_accuracy(network, torch.from_numpy(rows), among_seen, self.learner.compute.device)[1]
        return FoldScore(fold, seed, head, self._control(config), accuracy(zeroshot, rows, test.labels))

    def _control(self, config: RunConfig) -> float:
        """Fitted to the training and the validation clips, because it chooses its strength by cross-validation."""
        clips = config.clips(self.learner.recordings.table)
        train, test = (
            self.learner.recordings.clip_set(part, config.split.seen)
            for part in ((*clips.train, *clips.validation), clips.test)
        )
        model = ridge_classifier()
        model.fit(self.statistics[train.clips], train.labels)
        return float((model.predict(self.statistics[test.clips]) == test.labels).mean())
