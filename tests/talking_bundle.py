"""A bundle whose text model knows six words: enough to type labels, without a text model of 40 MB."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from serving.bundle.bundle import open_bundle
from serving.bundle.manifest import write_manifest
from serving.zeroshot import unit_rows
from serving.zeroshot.zeroshot_file import read_zeroshot, write_zeroshot

# Class of the small recordings -> the words that mean it.
MEANINGS = {"tone": ("tone", "whistle"), "noise": ("noise", "hiss"), "clicks": ("clicks", "ticking")}


def write_talking_bundle(source: Path, folder: Path, class_texts: str = "description") -> Path:
    """Copy a bundle of the classes tone, noise and clicks, with a text model that knows the words of MEANINGS.

    A word has its class's vector, so "hiss" scores as "noise" does, although it is no class of the training.
    class_texts: what of a class is encoded, see `serving.text_model.text_source.CLASS_TEXTS`.
    """
    shutil.copytree(source, folder)
    zeroshot = read_zeroshot(folder / "zeroshot.npz")
    vectors = np.eye(len(MEANINGS), dtype=np.float32)  # of the meanings, in their order
    words = sorted((word, row) for row, meaning in enumerate(MEANINGS.values()) for word in meaning)
    text = folder / "text"
    text.mkdir()
    (text / "text.json").write_text(json.dumps({"encoder": "glove", "max_tokens": 1, "class_texts": class_texts}))
    (text / "descriptions.json").write_text(json.dumps({name: name for name in MEANINGS}))
    np.savez(
        text / "glove.npz",
        vectors=(100 * vectors[[row for _, row in words]]).astype(np.int8),
        scales=np.full(len(words), 0.01, np.float32),
        sorted_words=np.frombuffer("".join(word for word, _ in words).encode(), np.uint8),
        lengths=np.array([len(word) for word, _ in words], np.uint8),
    )
    mean = vectors.mean(axis=0)
    order = [list(MEANINGS).index(name) for name in zeroshot.class_names]
    class_vectors = unit_rows(vectors[order] - mean)
    projection = zeroshot.projection @ zeroshot.class_vectors.T @ class_vectors  # [128, 3]
    talking = replace(zeroshot, projection=projection, class_vectors=class_vectors, text_mean=mean)
    write_zeroshot(talking, folder / "zeroshot.npz")
    write_manifest(folder, replace(open_bundle(source).manifest, files={}))
    return folder
