"""What the model card says of the scores."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from demo.bundle_choice import FROM_SCRATCH
from export.model_card import model_card
from serving.bundle.bundle import open_bundle


def card_of(scores: dict[str, Any]) -> str:
    """The card of the bundle from scratch with other scores, and without results of a parity check."""
    manifest = replace(open_bundle(FROM_SCRATCH).manifest, scores=scores)
    sizes = dict.fromkeys(manifest.files, 1)
    judge: Any = SimpleNamespace(
        samples=SimpleNamespace(recordings=[], n_probes=0),
        reference=SimpleNamespace(name="PyTorch"),
        trained_on=False,
        on_choosers=False,
    )
    return model_card(manifest, sizes, judge, [])


def test_a_score_of_one_unseen_class_alone_is_not_measurable():
    card = card_of({"seen_accuracy": 0.8, "unseen_top1": {"1": 1.0, "2": 0.9}})
    assert "| unseen classes, 1 labels: accuracy | not measurable (one class) |" in card
    assert "| unseen classes, 2 labels: accuracy | 90.0% |" in card
    assert "100.0%" not in card


def test_the_card_says_by_which_windows_a_clip_is_ranked():
    assert "ranked and compared by the mean of those windows that are not silent" in card_of({})
