"""The header of the page: what the model is, and what it is good and bad at."""

import html

from demo.expected_score import out_of_ten, seen_accuracy, unseen_accuracy
from serving.embedder import Embedder
from serving.teaching.taught_record import new_classes

TAGLINE = "Small neural networks that recognise sounds by text descriptions, including sounds they were not trained on."
AUDIOSET = "yamnet-audioset"  # the network that starts from Google's YAMNet


def facts(embedder: Embedder) -> dict[str, str]:
    """What runs: name -> value."""
    manifest = embedder.manifest
    found = {
        "bundle": embedder.bundle.folder.resolve().name,
        "network": manifest.network,
        "trained on": f"{manifest.dataset}, {len(manifest.seen_classes)} classes",
    }
    if manifest.network == AUDIOSET:
        found["starts from"] = "Google's YAMNet, which heard AudioSet's 521 classes"
    return found | {"runs on": f"{embedder.backend}, {embedder.precision}"}


def good_and_bad(embedder: Embedder) -> list[str]:
    """What the model is good and bad at: one sentence each."""
    manifest = embedder.manifest
    scores, n_trained = manifest.scores, len(manifest.seen_classes)
    n_taught = len(new_classes(embedder.zeroshot, manifest))
    seen, ten = seen_accuracy(scores), unseen_accuracy(scores, 10)
    sentences = []
    if seen is not None:
        right = f"about {out_of_ten(seen)} first answers are right among them."
        sentences.append(f"Good at the {n_trained} classes of its training: {right}")
    if n_taught:
        taught = scores.get("taught_accuracy_all")
        if isinstance(taught, (int, float)):
            right = f"{100 * taught:.0f} % of the held-out examples are named right among all its classes."
        else:
            right = "how often they are named right was not measured."
        sentences.append(f"Taught {n_taught} more by examples: {right}")
    if ten is not None:
        sentences.append(
            "Weaker on sounds that it knows only from words: the more labels, the more often the first answer is "
            f"wrong (about {out_of_ten(ten)} right among 10)."
        )
    if embedder.zeroshot.threshold is None:
        sentences.append(
            "It always answers with one of the labels, even for a sound that is like none of them: this bundle has no "
            "threshold to refuse with."
        )
    sentences.append("It gives one name to each stretch of sound, also where several sounds overlap.")
    return sentences


def draw_header(embedder: Embedder) -> str:
    """Draw the header as HTML."""
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{html.escape(value)}</dd></div>" for name, value in facts(embedder).items()
    )
    words = " ".join(good_and_bad(embedder))
    return f'<header><h1>Unheard</h1><p>{TAGLINE}</p><dl>{rows}</dl><p class="skills">{html.escape(words)}</p></header>'
