"""The answer for one recording: typed labels ranked for its windows, what is heard when, and both for programs."""

from typing import Any

from demo.drawing.draw_ranking import as_json
from demo.embedded_recording import EmbeddedRecording
from demo.heard import Heard, heard
from demo.labels.ranked_labels import RankedLabels, rank_labels
from demo.labels.typed_labels import read_descriptions, read_labels
from serving.embedder import Embedder


def rank_typed(
    embedder: Embedder, embedded: EmbeddedRecording, labels: str, favour: float, descriptions: str
) -> RankedLabels:
    """Rank labels, as they are typed, for a recording. LabelError: one cannot be used."""
    named = read_labels(labels, embedder.zeroshot.class_names)
    own = read_descriptions(descriptions, embedder)
    return rank_labels(embedder, embedded.rows, named, favour, own, embedded.window, embedded.levels)


def heard_in(embedded: EmbeddedRecording, ranked: RankedLabels) -> list[Heard]:
    """What is heard when."""
    labels = ranked.named_windows(embedded.silent_windows)
    return heard(embedded.starts_s, embedded.ends_s, labels, [share for _, share in ranked.by_window])


def as_answer(embedder: Embedder, embedded: EmbeddedRecording, ranked: RankedLabels) -> dict[str, Any]:
    """The API's answer for one recording."""
    return {
        "ranking": as_json(ranked),
        "none_of_these": ranked.none_of_these,
        "unknown_words": ranked.unknown_words,
        "windows": [
            {"label": label, "probability": share, "level_dbfs": level, "silent": silent, "none_of_these": none}
            for (label, share), level, silent, none in zip(
                ranked.by_window, embedded.levels, embedded.silent_windows, ranked.none_by_window, strict=True
            )
        ],
        "heard": [
            {
                "label": stretch.label,
                "start_s": stretch.start_s,
                "end_s": stretch.end_s,
                "probability": stretch.probability,
            }
            for stretch in heard_in(embedded, ranked)
        ],
        "milliseconds": {**embedded.milliseconds, "rank": ranked.milliseconds},
        "warnings": list(embedded.warnings),
        "clip": {
            "seconds": embedded.seconds,
            "rate_hz": embedded.rate_hz,
            "channels": embedded.channels,
            "level_dbfs": embedded.level_dbfs,
            "silent": embedded.is_silent,
        },
        "backend": embedder.backend,
        "precision": embedder.precision,
    }
