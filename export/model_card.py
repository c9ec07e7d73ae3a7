"""Write the model card, which is the README.md of a bundle."""

from collections.abc import Sequence

from export.parity.comparison import excused_rows
from export.parity.judge import BATCHES, Judge, ParityResult
from export.parity.parity_report import parity_markdown
from serving.bundle_files import ATTRIBUTION, FRONT_END_MODEL
from serving.manifest import Manifest

SCORE_NAMES = {
    "test_accuracy": "test accuracy, training head",
    "validation_accuracy": "validation accuracy, training head",
    "zeroshot_map_test_accuracy": "test accuracy, map to class vectors",
    "zeroshot_map_validation_accuracy": "validation accuracy, map to class vectors",
    "folds_accuracy": "cross-validation over the recording folds: accuracy, training head",
    "folds_map_accuracy": "cross-validation over the recording folds: accuracy, map to class vectors",
    "holdouts_zsl": "trained without some classes: top-1 accuracy among these unseen classes (ZSL)",
    "holdouts_harmonic_mean": "trained without some classes: harmonic mean of seen and unseen accuracy (GZSL)",
}


def model_card(
    manifest: Manifest, sizes: dict[str, int], judge: Judge, results: Sequence[ParityResult], trained_on: bool = False
) -> str:
    """Describe the model in Markdown: its input and output, training data, scores and parity results.

    sizes       bytes of each file of the bundle
    trained_on  whether the recordings of the parity check are training recordings
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
    recordings = f"{len(judge.samples.counts)} recordings{' of the training data' if trained_on else ''}"
    batches = ", ".join(map(str, BATCHES))
    return f"""# {manifest.network} on {manifest.dataset}

Computes {manifest.embedding_size}-dimensional embeddings of sounds and ranks classes by their text descriptions.

| | |
|---|---|
| network | {manifest.network} |
| input | {_describe_input(manifest)} |
| output | embedding [batch, {manifest.embedding_size}] float32; a clip's embedding is the mean of its windows' |
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

{_score_table(manifest)}

## Parity

Compared with {judge.reference.name}, on {judge.samples.n_probes} probes (silence, tones, noise, square waves, single
samples) and {recordings}, in batches of {batches}. The table shows the batch size
with the smallest cosine. Embeddings have a mean length of 1 on the training clips. {_describe_excused(results)}.
Ranking: share of recordings with the same best-ranked class. Neighbours: share of their five nearest neighbours that
are the same. Accuracy: of the training head.

{parity_markdown(results)}

## Use

    python -m serving BUNDLE --port 8000
    python -m demo BUNDLE

The model knows the kinds of sound in its training recordings. For any other sound, the ranking still names a class,
and that class can be wrong.
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


def _score_table(manifest: Manifest) -> str:
    """The scores of the run in Markdown."""
    if not manifest.scores:
        return "None: the training used every clip, and no cross-validation was run."
    lines = (f"| {SCORE_NAMES.get(name, name)} | {value:.1%} |" for name, value in manifest.scores.items())
    return "\n".join(["| what | value |", "|---|---|", *lines])
