"""Calibrate a run: probabilities, offset, the threshold of "none of these", and the scores that a user can expect.

    python -m training.calibrate runs/NAME --init yamnet.tflite

Repeats the run's recipe without each recording fold and without groups of classes, and scores the clips that were held
out. Writes the temperature, the offset and the threshold into RUN/zeroshot.npz, and the scores into
RUN/evaluation/calibration.json, from which export.onnx takes them.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.table import Table

from serving.command_line import run_command, say, show
from serving.errors import UsageError
from serving.files.atomic_write import sync_to_disk
from serving.progress import track
from serving.zeroshot.label_text import normalise_label
from serving.zeroshot.zeroshot_file import read_zeroshot, write_zeroshot
from training.compute import ComputeOptions, choose_compute
from training.data.known_classes import CLASS_NAMES
from training.evaluation.cross_fits import cross_fits, recording_folds
from training.evaluation.noise import with_noise
from training.evaluation.open_labels import Scores, apply_calibration, calibrate
from training.fit.checkpoint import save_whole, write_text
from training.learner import Learner
from training.opened_run import learner_of_run, table_of_run
from training.published.pretrained import published_weights
from training.run_folder import (
    CALIBRATION,
    ZEROSHOT,
    RunConfig,
    evaluation_folder,
    load_network,
    next_export,
    refuse_unfinished,
)
from training.text_encoders import text_encoder
from training.zeroshot_maps import text_vectors


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(ComputeOptions):
    """Calibrate the probabilities of a run, choose its threshold, and measure its scores by the number of labels."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run folder; all classes of its data set must be seen"""
    data_dir: Path | None = None
    """folder of the recordings; default: the one that the run used"""
    init: Path | None = None
    """the published weights that the run started from, if it did"""
    cache_dir: Path = Path("cache")
    """folder for log-mels and pretrained weights that runs share"""


@dataclass(frozen=True)
class Recipe:
    """A finished run, opened to repeat it.

    names  the labels of the question with all labels;  place: folder of the run's evaluations
    """

    config: RunConfig
    learner: Learner
    names: list[str]
    place: Path


def calibrate_run(options: CalibrateOptions) -> dict[str, Any]:
    """Calibrate, write the files, and return the scores."""
    recipe = open_recipe(options)
    config, names, place = recipe.config, recipe.names, recipe.place
    vectors = text_vectors(names, text_encoder(config.text), config.class_texts)
    stored = dict(zip(names, vectors, strict=True))
    bar = partial(track, title="fits")
    fits = cross_fits(recipe.learner, config, bar)

    def encode(labels: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([stored[label] for label in labels])

    chosen = calibrate(fits, names, encode)
    learner, device = recipe.learner, recipe.learner.compute.device
    network = load_network(options.run, config).to(device)
    calibrated = apply_calibration(read_zeroshot(options.run / ZEROSHOT), chosen)
    calibrated, found = with_noise(calibrated, network, config, learner.embed(network), device)
    chosen.scores["none_found_noise"] = found
    # Scores never stand beside a map that does not give them: the old ones go first, the new ones come last.
    (place / CALIBRATION).unlink(missing_ok=True)
    sync_to_disk(place)
    save_whole(options.run / ZEROSHOT, partial(write_zeroshot, calibrated))
    write_text(place / CALIBRATION, json.dumps(asdict(chosen), indent=1) + "\n")
    _show(options.run, chosen.scores)
    say(next_export(options.run))
    settings = {"temperature": chosen.temperature, "offset": chosen.offset, "threshold": chosen.threshold}
    return {"out": str(options.run), **settings, **chosen.scores}


def open_recipe(options: CalibrateOptions) -> Recipe:
    """Load what a run was made from. Whatever can be refused is refused before the recordings are decoded.

    errors   UnheardError: the run did not finish, cannot be written or keeps classes unseen; its data or weights are
             others; a flag is wrong; or the data set has too few classes or source recordings for `cross_fits`
    """
    config, compute = RunConfig.load(options.run), choose_compute(options)
    refuse_unfinished(options.run)
    if len(config.split.seen) < len(config.classes):
        raise UsageError(f"{options.run}: keeps classes unseen; calibrate a run of --split all")
    init = published_weights(options.init, config.init)
    table, place = table_of_run(config, options.data_dir), evaluation_folder(options.run)
    recording_folds(table)
    return Recipe(config, learner_of_run(config, table, compute, options.cache_dir, init), _all_labels(config), place)


def _all_labels(config: RunConfig) -> list[str]:
    """The labels of the question with all labels: the data set's classes, and those that its folder does not have."""
    had = {normalise_label(name) for name in config.classes}
    of_data_set = CLASS_NAMES.get(config.dataset, {}).values()
    return [*config.classes, *(name for name in of_data_set if normalise_label(name) not in had)]


def _show(run: Path, scores: Scores) -> None:
    table = Table()
    table.add_column("score")
    table.add_column("labels", justify="right")
    table.add_column("value", justify="right")
    for name, value in scores.items():
        for count, each in value.items() if isinstance(value, dict) else [("", value)]:
            table.add_row(name.replace("_", " "), count, f"{each:.3f}")
    show(table, f"{run}: on clips that were held out")


main = partial(run_command, CalibrateOptions, calibrate_run, "python -m training.calibrate")

if __name__ == "__main__":
    raise SystemExit(main())
