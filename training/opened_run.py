"""Open a run to score it or to repeat its recipe: its data set's table, then a learner that trains as the run did."""

from pathlib import Path

from serving.errors import DataError
from training.compute import Compute
from training.data.clips import ClipTable, load_clips
from training.learner import Learner
from training.recordings import load_recordings
from training.run_folder import RunConfig
from training.text_encoders import text_encoder
from training.zeroshot_maps import text_vectors


def table_of_run(config: RunConfig, data_dir: Path | None) -> ClipTable:
    """The table of the clips that a run was made from. It takes a second, so flags can be checked against it.

    data_dir   folder of the recordings; None: the one that the run used
    errors     DataError: the folder cannot be read, or has other classes than the run
    """
    folder = data_dir or Path(config.data_dir)
    table = load_clips(config.dataset, folder)
    if list(table.classes) != config.classes:
        raise DataError(f"{folder}: does not have the classes that the run was trained on; give its --data-dir")
    return config.without_skipped(table)


def learner_of_run(
    config: RunConfig, table: ClipTable, compute: Compute, cache_dir: Path, init: Path | None
) -> Learner:
    """A learner for the run's recipe. Decodes all recordings whose log-mels are not in the cache, which takes minutes.

    init   the published weights that the run started from; None: random weights, or nothing will be trained
    """
    return Learner(
        load_recordings(config, table, cache_dir),
        text_vectors(table.classes, text_encoder(config.text), config.class_texts),
        compute,
        cache_dir,
        init=init,
        attributes=config.attribute_matrix(),
    )
