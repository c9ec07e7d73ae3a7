"""The file of a zero-shot map: an .npz without pickled objects, in a run and in a bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from serving.errors import BundleError
from serving.files.npz import ArrayForm, read_npz
from serving.zeroshot import ZeroShot

LARGEST_NUMBER = 1e9  # in a file
FORMS = {
    "mean": ArrayForm("f", ("embedding_size",)),
    "projection": ArrayForm("f", ("embedding_size", "size")),
    "class_names": ArrayForm("U", ("classes",)),
    "class_vectors": ArrayForm("f", ("classes", "text_size")),
    "seen": ArrayForm("b", ("classes",)),
    "temperature": ArrayForm("f", ()),
    "text_mean": ArrayForm("f", ("text_size",), optional=True),
    "text_projection": ArrayForm("f", ("text_size", "size"), optional=True),
    "offset": ArrayForm("f", (), optional=True),
    "balanced": ArrayForm("b", (), optional=True),
    "threshold": ArrayForm("f", (), optional=True),
    "noise": ArrayForm("f", ("noises", "size"), optional=True),
    "noise_thresholds": ArrayForm("f", ("noises",), optional=True),
    "example_sums": ArrayForm("f", ("classes", "size"), optional=True),
    "prior_weight": ArrayForm("f", (), optional=True),
    "given_targets": ArrayForm("f", ("classes", "size"), optional=True),
}
NUMBERS = [name for name, form in FORMS.items() if form.kinds == "f"]


def write_zeroshot(zeroshot: ZeroShot, path: Path) -> None:
    """Write a map. What it does not have is left out."""
    arrays = {
        "mean": zeroshot.mean,
        "projection": zeroshot.projection,
        "class_names": np.array(zeroshot.class_names, dtype=np.str_),
        "class_vectors": zeroshot.class_vectors,
        "seen": zeroshot.seen,
        "temperature": np.float32(zeroshot.temperature),
    }
    if zeroshot.text_mean is not None:
        arrays["text_mean"] = zeroshot.text_mean
    if zeroshot.text_projection is not None:
        arrays["text_projection"] = zeroshot.text_projection
    if zeroshot.offset:
        arrays["offset"] = np.float32(zeroshot.offset)
    if zeroshot.balanced:
        arrays["balanced"] = np.bool_(True)
    if zeroshot.threshold is not None:
        arrays["threshold"] = np.float32(zeroshot.threshold)
    if zeroshot.noise is not None and zeroshot.noise_thresholds is not None:
        arrays |= {"noise": zeroshot.noise, "noise_thresholds": zeroshot.noise_thresholds}
    if zeroshot.example_sums is not None:
        arrays["example_sums"] = zeroshot.example_sums
        arrays["prior_weight"] = np.float32(zeroshot.prior_weight)
    if zeroshot.given_targets is not None:
        arrays["given_targets"] = zeroshot.given_targets
    np.savez(path, allow_pickle=False, **arrays)


def read_zeroshot(path: Path) -> ZeroShot:
    """Read a file that `write_zeroshot` wrote. Errors as `parse_zeroshot`, and OSError."""
    return parse_zeroshot(path.read_bytes(), str(path))


def parse_zeroshot(content: bytes, name: str, embedding_size: int | str = "embedding_size") -> ZeroShot:
    """Read the content of a file that `write_zeroshot` wrote.

    name            of the file, for messages
    embedding_size  that it must have; a text: any
    errors          BundleError: it is another file, or has values that lead to scores that are no numbers
    """
    stored = read_npz(content, name, {key: _with_size(form, embedding_size) for key, form in FORMS.items()})
    names = [str(label) for label in stored["class_names"]]
    largest = max(float(np.abs(stored[key]).max(initial=0)) for key in NUMBERS if key in stored)
    if largest > LARGEST_NUMBER or not names or not all(names):
        raise BundleError(f"{name}: has a number of {largest:g}, a class without a name, or no class; export it again")
    if "text_projection" not in stored and stored["projection"].shape[1] != stored["class_vectors"].shape[1]:
        raise BundleError(f"{name}: projection and class_vectors have other sizes; export it again")
    if ("noise" in stored) != ("noise_thresholds" in stored):
        raise BundleError(f"{name}: has only one of noise and noise_thresholds; export it again")
    return ZeroShot(
        mean=stored["mean"],
        projection=stored["projection"],
        class_names=names,
        class_vectors=stored["class_vectors"],
        seen=stored["seen"],
        temperature=float(stored["temperature"]),
        text_mean=stored.get("text_mean"),
        text_projection=stored.get("text_projection"),
        offset=float(stored.get("offset", 0.0)),
        balanced=bool(stored.get("balanced", False)),
        threshold=float(stored["threshold"]) if "threshold" in stored else None,
        noise=stored.get("noise"),
        noise_thresholds=stored.get("noise_thresholds"),
        example_sums=stored.get("example_sums"),
        prior_weight=float(stored.get("prior_weight", 0.0)),
        given_targets=stored.get("given_targets"),
    )


def _with_size(form: ArrayForm, embedding_size: int | str) -> ArrayForm:
    return replace(form, shape=tuple(embedding_size if size == "embedding_size" else size for size in form.shape))
