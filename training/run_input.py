"""Load what a run trains on: the data set's table, the run's configuration, the class texts and the recordings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.errors import DataError, UsageError
from training.data.class_attributes import attributes_of_one
from training.data.clips import ClipTable, load_clips
from training.data.download import download
from training.data.duplicates import duplicates, shared_files, with_two_labels
from training.data.frame_cache import UnreadableError
from training.data.splits import ClipSplit
from training.fit.workers import Workers
from training.networks import build_network
from training.options import Options, configure
from training.published.pretrained import load_pretrained
from training.recordings import Recordings, load_recordings
from training.run_folder import RunConfig
from training.synthesis.vocabulary import VOCABULARY_SEED, vocabulary_texts
from training.text_encoders import text_encoder
from training.zeroshot_maps import text_vectors


@dataclass(frozen=True)
class RunInput:
    """What a run trains on.

    clips         the recordings' clips by their use
    texts         [n_classes, text_size] float32: vectors of the class descriptions, in the table's order
    warnings      lines to print
    duplicates    number of recordings that two parts share, or that have two labels, byte for byte; only the first
                  process looks for them
    read_in_part  number of recordings that could be read only in part
    """

    config: RunConfig
    recordings: Recordings
    clips: ClipSplit
    texts: NDArray[np.float32]
    warnings: list[str]
    duplicates: int
    read_in_part: int


def load_run_input(options: Options, out: Path, workers: Workers) -> RunInput:
    """Load a run's input. Whatever can be checked without the recordings is checked before they are decoded.

    errors   UnheardError: the flags do not fit the data set, the resumed run, or each other; or data cannot be read
    """
    with workers.first_alone():
        if options.download:
            download(options.dataset, options.recordings)
    table = load_clips(options.dataset, options.recordings)
    config = configure(options, table)
    clips = config.clips(table)  # raises for a split that is impossible
    split_without = config.skipped
    if options.resume:
        stored = RunConfig.load(out)
        # The flags do not choose these: a resumed run keeps its own.
        config = replace(config, front_end=stored.front_end, skipped=stored.skipped, clip_digest=stored.clip_digest)
        _refuse_other_options(config, stored)
    elif options.init:
        load_pretrained(build_network(config.network), options.init)  # raises before an older run is replaced
    texts = text_vectors(table.classes, text_encoder(config.text), config.class_texts)
    _check_vocabulary_texts(config)
    warnings: list[str] = []
    with workers.first_alone():
        config, recordings = _load_readable(options, config, table, warnings.append)
    read_in_part = len(warnings)
    if config.skipped:
        warnings.append(f"left out, because they cannot be read: {', '.join(config.skipped)}")
    if missing := config.split.warning():
        warnings.append(missing)
    if config.attributes and len(config.split.seen) < len(table.classes):
        source = options.attributes or "the built-in list (--attributes none leaves them out)"
        warnings.append(f"attributes of the classes from {source} help to place unseen classes")
    if options.attributes and (lonely := attributes_of_one(config.attributes)):
        warnings.append(f"attributes that only one class has compare it with no other: {', '.join(lonely)}")
    if config.skipped != split_without:
        clips = config.clips(table)
    if options.resume:
        config.refuse_others(clips)
    else:
        config = replace(config, clip_digest=clips.digest)
    # The first process alone prints the warnings and writes the number.
    n_duplicates = _warn_of_duplicates(clips, recordings.table, warnings.append) if workers.first else 0
    return RunInput(config, recordings, clips, texts, warnings, n_duplicates, read_in_part)


def _check_vocabulary_texts(config: RunConfig) -> None:
    """DataError: the encoder has no word for a sound of the vocabulary. Only one from a file can lack them."""
    if not config.vocabulary or ":" not in config.text:
        return
    try:
        text_encoder(config.text)(vocabulary_texts(config.vocabulary, VOCABULARY_SEED))
    except DataError as error:
        raise DataError(
            f"--text {config.text}: lacks words of the acoustic vocabulary ({error}); give another encoder, or "
            "--vocabulary 0"
        ) from error


def _warn_of_duplicates(clips: ClipSplit, table: ClipTable, warn: Callable[[str], None]) -> int:
    """Warn of recordings that two parts share, or that have two labels, seen or not. Returns the number of both."""
    parts = {"train": clips.train, "validation": clips.validation, "test": clips.test}
    groups = duplicates(table.clips)
    found = [*with_two_labels(groups, table.classes), *shared_files(groups, parts)]
    for each in found:
        warn(each.line())
    return sum(len(each.pairs) for each in found)


def _load_readable(
    options: Options, config: RunConfig, table: ClipTable, warn: Callable[[str], None]
) -> tuple[RunConfig, Recordings]:
    """The recordings. With --skip-unreadable, those that can be read, and a configuration that lists the others.

    errors   UnreadableError: some cannot be read; DataError: with --skip-unreadable, a class has none that can be read
    """
    try:
        return config, load_recordings(config, config.without_skipped(table), options.cache_dir, warn)
    except UnreadableError as error:
        if not options.skip_unreadable or options.resume:
            raise
        root = table.root
        skipped = [path.relative_to(root).as_posix() for path in error.reasons]
    config = replace(config, skipped=skipped)
    left = config.without_skipped(table)
    lost = set(range(len(table.classes))) - {clip.label for clip in left.clips}
    if lost:
        raise DataError(f"{root}: no recording of the class {table.classes[min(lost)]} can be read; repair them")
    return config, load_recordings(config, left, options.cache_dir, warn)


def _refuse_other_options(wanted: RunConfig, stored: RunConfig) -> None:
    for name in RunConfig.__dataclass_fields__:
        now, then = getattr(wanted, name), getattr(stored, name)
        if now != then:
            shown, stored_as = (str(each)[:80] for each in (now, then))
            raise UsageError(f"--resume: {name} is {shown}, but the run has {stored_as}; give the same options")
