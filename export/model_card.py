"""Write the model card, which is the README.md of a bundle."""

from collections.abc import Sequence

from export.parity.comparison import excused_rows
from export.parity.judge import BATCHES, Judge, ParityResult
from export.parity.parity_report import parity_markdown
from serving.audio import SILENT_DBFS
from serving.bundle.bundle_files import ATTRIBUTION, FRONT_END_MODEL
from serving.bundle.manifest import Manifest

SCORE_NAMES = {
    "test_accuracy": "test accuracy, training head",
    "validation_accuracy": "validation accuracy, training head",
    "zeroshot_map_test_accuracy": "test accuracy, map to class vectors",
    "zeroshot_map_validation_accuracy": "validation accuracy, map to class vectors",
    "folds_accuracy": "cross-validation over the recording folds: accuracy, training head",
    "folds_map_accuracy": "cross-validation over the recording folds: accuracy, map to class vectors",
    "holdouts_zsl": "trained without some classes: top-1 accuracy among these unseen classes (ZSL)",
    "holdouts_harmonic_mean": "trained without some classes: harmonic mean of seen and unseen accuracy (GZSL)",
    "seen_accuracy": "seen classes, all of them as labels: accuracy on held-out recordings",
    "calibration_error_seen": "expected calibration error there",
    "unseen_top1": "unseen classes, {} labels: accuracy",
    "unseen_top5": "unseen classes, {} labels: right label among the first five",
    "calibration_error_unseen": "unseen classes, {} labels: expected calibration error",
    "gzsl_seen": "seen and unseen classes among all labels: accuracy on seen classes",
    "gzsl_unseen": "seen and unseen classes among all labels: accuracy on unseen classes",
    "gzsl_harmonic_mean": "harmonic mean of these two (GZSL)",
    "mixed_seen": "{} seen + unseen labels: accuracy on seen classes",
    "mixed_unseen": "{} seen + unseen labels: accuracy on unseen classes",
    "mixed_harmonic_mean": "{} seen + unseen labels: harmonic mean of these two",
    "calibration_error_mixed": "{} seen + unseen labels: expected calibration error",
    "hub_share": "share of the clips of unseen classes that the most frequent answer takes, all labels",
    "hub_gini": "Gini coefficient of the answers to these clips",
    "none_auroc": "none of these: area under the ROC curve (AUROC), seen and unseen labels",
    "none_auroc_seen": "none of these: AUROC, seen labels",
    "none_auroc_unseen": "none of these: AUROC, unseen labels",
    "none_kept_seen": "a clip whose label is among three seen labels is not refused",
    "none_kept_unseen": "a clip whose label is among three unseen labels is not refused",
    "none_found_seen": "a clip whose label is not among three seen labels is none of these",
    "none_found_unseen": "a clip whose label is not among three unseen labels is none of these",
    "none_found_noise": "synthesised white to brown noise is none of these",
}
NUMBERS = {"hub_gini", "none_auroc", "none_auroc_seen", "none_auroc_unseen"}  # that are no shares
AUDIOSET = """
Google trained the starting weights on AudioSet, whose 521 classes contain most everyday sounds. These weights did not
change. So "unseen" means here that no recording of the class was used to fit the embedding and the class vectors; the
network has probably heard the sound in AudioSet.
"""


def model_card(manifest: Manifest, sizes: dict[str, int], judge: Judge, results: Sequence[ParityResult]) -> str:
    """Describe the model in Markdown: its input and output, training data, scores and parity results.

    sizes   bytes of each file of the bundle
    """
    models = "\n".join(
        f"| {precision} | {name} | {sizes[name] / 1e6:.2f} |" for precision, name in manifest.models.items()
    )
    fp32_layers = ""
    if "int8" in manifest.models:
        fp32_layers = f"\nLayers of the INT8 model that stay in FP32: {', '.join(manifest.fp32_layers) or 'none'}.\n"
    license = manifest.license
    if ATTRIBUTION in sizes:
        license += f"; their authors: [{ATTRIBUTION}]({ATTRIBUTION})"
    recordings = f"{len(judge.samples.recordings)} recordings{' of the training data' if judge.trained_on else ''}"
    if judge.on_choosers:
        recordings += " (too few for others to choose the layers of the INT8 model: some of these did)"
    batches = ", ".join(map(str, BATCHES))
    return f"""# {manifest.network} on {manifest.dataset}

Computes {manifest.embedding_size}-dimensional embeddings of sounds and ranks classes by their text descriptions.

| | |
|---|---|
| network | {manifest.network} |
| input | {_describe_input(manifest)} |
| output | embedding [batch, {manifest.embedding_size}] float32; a clip's embedding is the mean of its windows'. \
It is ranked and compared by the mean of those windows that are not silent (peak of {SILENT_DBFS:g} dBFS or more) |
| trained on | {manifest.dataset}, split {manifest.split}: {", ".join(manifest.seen_classes)} |
| objective | {manifest.objective} |
| started from | {manifest.init or "random weights"} |
| licence of the recordings | {license} |
| embedding space | `{manifest.embedding_space[:16]}` |

| precision | file | MB |
|---|---|---|
{models}
{fp32_layers}
## Scores
{AUDIOSET if manifest.objective == "whitening" else ""}
{_score_table(manifest)}

## Parity

Compared with {judge.reference.name}, on {judge.samples.n_probes} probes (silence, tones, noise, square waves, single
samples) and {recordings}, in batches of {batches}. The table shows the worst
batch size, by its cosine, and the largest difference of all. Embeddings have a mean length of 1 on the training clips.
{_describe_excused(results)}.
Ranking: share of recordings with the same best-ranked class. Neighbours: share of their five nearest neighbours that
are the same. Accuracy: of the training head.

{parity_markdown(results)}

## Use

    python -m serving BUNDLE --port 8000
    python -m demo BUNDLE

{_describe_limits(manifest)}
"""


def _describe_input(manifest: Manifest) -> str:
    """The model's input tensor in one line."""
    window = manifest.window
    waveform = (
        f"waveform [batch, {window.samples}] float32 in [-1, 1]: {window.samples} samples, mono, {window.rate_hz} Hz, "
        f"{window.samples / window.rate_hz:.3f} s"
    )
    if manifest.input == "log_mel":
        return f"log_mel [batch, frames, 64] float32, the output of {FRONT_END_MODEL} for a {waveform}"
    return waveform


def _describe_excused(results: Sequence[ParityResult]) -> str:
    """The rows that exceed the FP32 limit within their allowance for rounding, in one sentence."""
    rows = excused_rows(result.comparison for result in results)
    if not rows:
        return "No row exceeds the FP32 limit"
    return f"These rows exceed the FP32 limit, but only by FP32 rounding: {', '.join(rows)}"


def _describe_limits(manifest: Manifest) -> str:
    """What an answer means, in a paragraph."""
    limits = "The model knows the kinds of sound in its training recordings"
    if "none_auroc" not in manifest.scores:
        return f"{limits}. For any other sound, the ranking still names a class,\nand that class can be wrong."
    return f"""{limits} best. The probabilities of a ranking sum to 1 over the
labels, also for a sound that is none of them. `none_of_these` says that, with the errors above: the sound is silent or
even noise, or its largest similarity is below the threshold of the bundle."""


def _score_table(manifest: Manifest) -> str:
    """The scores of the run in Markdown."""
    if not manifest.scores:
        return "None: the training used every clip, and no cross-validation was run."
    lines = []
    for name, value in manifest.scores.items():
        for count, each in value.items() if isinstance(value, dict) else [("", value)]:
            shown = f"{each:.3f}" if name in NUMBERS else f"{each:.1%}"
            if name.startswith("unseen_") and count == "1":
                shown = "not measurable (one class)"
            lines.append(f"| {SCORE_NAMES.get(name, name).format(count)} | {shown} |")
    return "\n".join(["| what | value |", "|---|---|", *lines])
