"""The model card: README.md of a bundle."""

from collections.abc import Sequence

from export.parity.comparison import excused_rows
from export.parity.judge import BATCHES, Judge, Proof
from export.parity.parity_report import markdown
from serving.bundle import Manifest

ATTRIBUTION = "ATTRIBUTION.txt"  # the data set's own list of authors, copied into the bundle
NAMES = {
    "test_accuracy": "test accuracy, training head",
    "validation_accuracy": "validation accuracy, training head",
    "zeroshot_map_test_accuracy": "test accuracy, map to class vectors",
    "zeroshot_map_validation_accuracy": "validation accuracy, map to class vectors",
    "folds_accuracy": "this recipe trained anew without each recording fold: accuracy there",
    "folds_map_accuracy": "the same, by the zero-shot map, which is what ranks here",
    "holdouts_zsl": "this recipe trained anew without some classes: top-1 among those (ZSL)",
    "holdouts_harmonic_mean": "the same, all classes: harmonic mean of seen and unseen (GZSL)",
}


def model_card(
    manifest: Manifest, sizes: dict[str, int], judge: Judge, proofs: Sequence[Proof], trained_on: bool = False
) -> str:
    """Markdown: what the model is, what it was made from, how good it is, and the proof of parity.

    sizes       of the bundle's files, in bytes
    trained_on  whether the network is known to have learned from the recordings that it is judged on here
    """
    window = manifest.window
    samples = f"{window.samples} samples, mono, {window.rate_hz} Hz, {window.samples / window.rate_hz:.3f} s"
    takes = f"waveform [batch, {window.samples}] float32 in [-1, 1]: {samples}"
    if manifest.input == "log_mel":
        takes = f"log_mel [batch, frames, 64] float32, which frontend.onnx gives for a {takes}"
    models = "\n".join(
        f"| {precision} | {name} | {sizes[name] / 1e6:.2f} |" for precision, name in manifest.models.items()
    )
    kept = ""
    if "int8" in manifest.models:
        kept = f"\nIn INT8, these layers stayed in FP32: {', '.join(manifest.fp32_layers) or 'none'}.\n"
    scores = "None: every clip was trained on, and the recipe was not judged without some of them."
    if manifest.scores:
        lines = (f"| {NAMES.get(name, name)} | {value:.1%} |" for name, value in manifest.scores.items())
        scores = "\n".join(["| what | value |", "|---|---|", *lines])
    license = manifest.license
    if ATTRIBUTION in sizes:
        license += f"; their authors: [{ATTRIBUTION}]({ATTRIBUTION})"
    rows = excused_rows(proof.comparison for proof in proofs)
    excused = "no row is over the bound of FP32"
    if rows:
        excused = f"over the bound of FP32, but within its rounding: {', '.join(rows)}"
    recordings = f"{len(judge.samples.counts)} recordings{' that it was trained on' if trained_on else ''}"
    batches = ", ".join(map(str, BATCHES))
    return f"""# {manifest.network} on {manifest.dataset}

Turns sound into {manifest.embedding_size}-number embeddings and ranks classes by the texts that describe them.

| | |
|---|---|
| network | {manifest.network} |
| input | {takes} |
| output | embedding [batch, {manifest.embedding_size}] float32; a clip's embedding is the mean of its windows' |
| trained on | {manifest.dataset}, split {manifest.split}: {", ".join(manifest.seen_classes)} |
| objective | {manifest.objective} |
| started from | {manifest.init or "random weights"} |
| licence of the recordings | {license} |
| embedding space | `{manifest.embedding_space[:16]}` |

| precision | file | MB |
|---|---|---|
{models}
{kept}
## Scores

{scores}

## Parity

With {judge.reference.name}, over {judge.samples.n_probes} probes (silence, tones, noise, square waves, single
samples) and {recordings}, in batches of {batches}; the batch size with the least
cosine is shown. Embeddings have a mean length of 1 on the training clips; {excused}.
Ranking: share of recordings with the same best-ranked class; neighbours: share of their five nearest neighbours kept;
accuracy: of the training head.

{markdown(proofs)}

## Use

    python -m serving BUNDLE --port 8000
    python -m demo BUNDLE

The training recordings decide what it knows: sounds unlike them are placed by resemblance, and a ranking always
names some class, right or not.
"""
