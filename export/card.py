"""The model card: README.md of a bundle."""

from export.parity import Comparison, excused_rows
from serving.bundle import Manifest

NAMES = {
    "test_accuracy": "test accuracy, training head",
    "validation_accuracy": "validation accuracy, training head",
    "zeroshot_map_test_accuracy": "test accuracy, map to class vectors",
    "zeroshot_map_validation_accuracy": "validation accuracy, map to class vectors",
}


def model_card(manifest: Manifest, results: dict[int, Comparison], sources: dict[str, int]) -> str:
    """Markdown: what the model is, what it was made from, how good it is, and the proof of parity."""
    window = manifest.window
    samples = f"{window.samples} samples, mono, {window.rate_hz} Hz, {window.samples / window.rate_hz:.3f} s"
    scores = "\n".join(f"| {NAMES.get(name, name)} | {value:.1%} |" for name, value in manifest.scores.items())
    parity = "\n".join(
        f"| {batch} | {result.rows} | {result.worst_cosine:.7f} | {result.worst_difference:.1e} "
        f"| {result.worst_difference_row} |"
        for batch, result in results.items()
    )
    rows = excused_rows(results.values())
    excused = "no row is over the bound"
    if rows:
        excused = f"over the bound, but within the rounding of FP32: {', '.join(rows)}"
    return f"""# {manifest.network} on {manifest.dataset}

Turns sound into {manifest.embedding_size}-number embeddings and ranks classes by the texts that describe them.

| | |
|---|---|
| network | {manifest.network} |
| input | waveform [batch, {window.samples}] float32 in [-1, 1]: {samples} |
| output | embedding [batch, {manifest.embedding_size}] float32; a clip's embedding is the mean of its windows' |
| trained on | {manifest.dataset}, split {manifest.split}: {", ".join(manifest.seen_classes)} |
| objective | {manifest.objective} |
| started from | {manifest.init or "random weights"} |
| licence of the recordings | {manifest.license} |
| embedding space | `{manifest.embedding_space[:16]}` |

## Scores

| what | value |
|---|---|
{scores}

## Parity with PyTorch

Worst row over {sources["probes"]} probes (silence, tones, noise, square waves, single samples) and
{sources["recordings"]} recordings. Embeddings have a mean length of 1 on the training clips; {excused}.

| batch | rows | worst cosine | worst \\|difference\\| | in |
|---|---|---|---|---|
{parity}

## Use

    python -m serving BUNDLE --port 8000
    python -m demo BUNDLE

The training recordings decide what it knows: sounds unlike them are placed by resemblance, and a ranking always
names some class, right or not.
"""
