"""Write the text model into a bundle, so that typed labels work offline and without torch.

facts = write_text_model(folder, "glove+minilm")
zeroshot = with_text_mean(zeroshot, "glove+minilm")

MiniLM: an ONNX graph with the word table in INT8 (a scale for each word) and the layers' weights in FP16; all
arithmetic is FP32. It takes 34 MB instead of 91. docs/serving.md lists the alternatives that were measured.
GloVe: the most frequent words and those of the class descriptions, in INT8 with a scale for each word. It takes 9 MB
instead of 83.
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import load_file

from export.graph import write_graph
from export.parity.judge import ParityError
from serving.errors import DataError, UsageError
from serving.glove import Glove, split_words
from serving.labels import plain
from serving.minilm_graph import SCALES, build_graph
from serving.minilm_graph import WORDS as WORD_TABLE
from serving.text import (
    CONFIG,
    DESCRIPTIONS,
    ENCODERS,
    FILES,
    GLOVE,
    MINILM,
    PACKAGES,
    TOKENIZER,
    TextModel,
    join_vectors,
    package_folder,
)
from serving.zeroshot import ZeroShot
from training.data.known_classes import class_descriptions
from training.text_encoders import sentence, text_encoder
from training.zeroshot_maps import class_vectors, text_vectors

WORDS = 150_000  # most frequent words of GloVe: "quacking" is the 149 277th; for rarer words only MiniLM has a vector
# Of every compared text with PyTorch's MiniLM and GloVe in FP32. FP16 and INT8 weights reach 0.9999 for the worst text;
# a wrong operator or swapped weights give less than 0.99.
LEAST_COSINE = 0.9995
# Compared beside the classes' names and descriptions: a word, very short texts, and more tokens than the model takes.
OTHER_TEXTS = ("rain", "?", "a", "word " * 400)


def write_text_model(folder: Path, encoder: str) -> dict[str, Any]:
    """Write an encoder's text model into folder/text, and compare it with the original; see `prove`.

    encoder  glove, minilm or glove+minilm
    returns  "encoder", "bytes" of each file, and the result of `prove`
    errors   UsageError: another encoder; ParityError: the written model gives other vectors
    """
    refuse_other_encoder(encoder)
    name_text_model(folder, encoder)
    names, lines = list(_descriptions()), list(_descriptions().values())
    if "glove" in ENCODERS[encoder]:
        write_glove(folder / GLOVE, [*names, *lines])
    if "minilm" in ENCODERS[encoder]:
        write_minilm(folder / MINILM, folder / TOKENIZER)
    files = (CONFIG, DESCRIPTIONS, *(name for part in ENCODERS[encoder] for name in FILES[part]))
    sizes = {name: (folder / name).stat().st_size for name in files}
    texts = lines if encoder == "glove" else [*names, *lines, *OTHER_TEXTS]  # GloVe does not know every name
    return {"encoder": encoder, "bytes": sizes} | prove(folder, encoder, texts)


def name_text_model(folder: Path, encoder: str) -> None:
    """Write the encoder's name and the class descriptions into folder/text, without the model: 6 kB.

    That is enough for typed labels where the Python packages with the model are installed.
    """
    (folder / CONFIG).parent.mkdir(exist_ok=True)
    (folder / DESCRIPTIONS).write_text(json.dumps(_descriptions(), indent=1) + "\n")
    config: dict[str, Any] = {"encoder": encoder}
    if "minilm" in ENCODERS[encoder]:
        stored = json.loads((minilm_folder() / "sentence_bert_config.json").read_text())
        config["max_tokens"] = stored["max_seq_length"]  # the encoder of training truncates texts there too
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def refuse_other_encoder(encoder: str) -> None:
    """UsageError: a bundle cannot hold this encoder's model."""
    if encoder not in ENCODERS:
        raise UsageError(
            f"text model: got a run with --text {encoder}; a bundle can carry {', '.join(ENCODERS)}. Export with "
            "--no-text-model (the bundle then ranks only its own classes), or train with one of these"
        )


def with_text_mean(zeroshot: ZeroShot, encoder: str) -> ZeroShot:
    """The map, with the mean that its class vectors were centred on.

    errors   DataError: the class vectors differ from those of this encoder and the current descriptions
    """
    texts = text_vectors(zeroshot.class_names, text_encoder(encoder))
    current = class_vectors(texts, zeroshot.seen)
    if current.shape != zeroshot.class_vectors.shape or not np.allclose(current, zeroshot.class_vectors, atol=1e-4):
        raise DataError(
            f"class vectors: not those of {encoder} and the current training/data/classes.toml, so typed labels would "
            "not be comparable; train again, or give --no-text-model"
        )
    return replace(zeroshot, text_mean=texts[zeroshot.seen].mean(axis=0))


def write_glove(path: Path, texts: list[str]) -> None:
    """Write the most frequent words, and all words of these texts, with their vectors."""
    glove = Glove.of_package(package_folder(PACKAGES["glove"]))
    known = glove.words()
    common = [word for word in known if split_words(word) == [word]][:WORDS]
    used = {word for text in texts for word in split_words(text)}.intersection(known)
    words = sorted({*common, *used})  # words are ASCII, so this is also the order of their bytes
    quantised, scales = quantise_rows(glove.word_vectors(words))
    lengths = np.array([len(word) for word in words], np.uint8)
    encoded = np.frombuffer("".join(words).encode(), np.uint8)
    np.savez(path, vectors=quantised, scales=scales[:, 0], sorted_words=encoded, lengths=lengths)


def quantise_rows(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """[n, size] float32 -> rounded rows [n, size] int8, and the scale of each row [n, 1] float32."""
    scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12) / np.float32(127)
    return np.rint(rows / scales).astype(np.int8), scales


def write_minilm(path: Path, tokenizer: Path) -> None:
    """Write all-MiniLM-L6-v2 as ONNX with smaller weights, and its tokenizer."""
    tokenizer.write_bytes((minilm_folder() / "tokenizer.json").read_bytes())
    weights = load_file(minilm_folder() / "model.safetensors")
    words, scales = quantise_rows(weights.pop(WORD_TABLE))
    stored = {name: tensor.astype(np.float16) if tensor.ndim == 2 else tensor for name, tensor in weights.items()}
    stored |= {WORD_TABLE: words, SCALES: scales}
    graph = build_graph({name: numpy_helper.from_array(tensor, name) for name, tensor in stored.items()})
    write_graph(graph, path, {"model": "all-MiniLM-L6-v2", "license": "Apache-2.0"})


def minilm_folder() -> Path:
    """The folder of the original in its package."""
    return package_folder(PACKAGES["minilm"]) / "model"


def _descriptions() -> dict[str, str]:
    return {plain(name): line for name, line in class_descriptions().items()}


def prove(folder: Path, encoder: str, texts: list[str]) -> dict[str, Any]:
    """Compare the text model in a folder with the original: MiniLM in PyTorch, and GloVe's vectors in FP32.

    returns  "reference", "texts" (their number), "least_cosine" (the bound), "worst_cosine" and "worst_text"
    errors   ParityError: a text's cosine is below the bound or NaN
    """
    parts = ENCODERS[encoder]
    minilm = partial(sentence, str(minilm_folder())) if "minilm" in parts else None
    glove = Glove.of_package(package_folder(PACKAGES["glove"])) if "glove" in parts else None
    wanted = join_vectors(texts, glove, minilm)
    written = TextModel.open(folder).vectors(texts)
    cosines = (wanted * written).sum(axis=1)  # both of unit length
    worst = int(np.nan_to_num(cosines, nan=-2.0).argmin())
    if not cosines[worst] >= LEAST_COSINE:
        raise ParityError(
            f"text model: {texts[worst][:80]!r} has cosine {cosines[worst]:.5f} with the original {encoder}, wanted at "
            f"least {LEAST_COSINE}; nothing was written"
        )
    return {
        "reference": "MiniLM in PyTorch (sentence-transformers), GloVe in FP32",
        "texts": len(texts),
        "least_cosine": LEAST_COSINE,
        "worst_cosine": float(cosines[worst]),
        "worst_text": texts[worst],
    }
