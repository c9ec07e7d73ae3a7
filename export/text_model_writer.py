"""Write the text model into a bundle, so that users can type labels offline and without torch.

facts = write_text_model(folder, "glove+minilm")
zeroshot = with_text_mean(zeroshot, "glove+minilm")

MiniLM is written as an ONNX graph. Its word table is INT8 with a factor for each word, the weights of its layers are
FP16, and the arithmetic is FP32. It takes 34 MB instead of 91 MB. docs/results/text-model.md lists the alternatives.
GloVe is written with its most frequent words and the words of the class descriptions, in INT8 with a factor for each
word. It takes 9 MB instead of 83 MB.
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
from serving.bundle.bundle_files import DESCRIPTIONS, GLOVE_WORDS, MINILM_MODEL, MINILM_TOKENIZER, TEXT_CONFIG
from serving.errors import DataError, UsageError
from serving.text_model.glove import Glove, split_words
from serving.text_model.minilm_graph import WORD_SCALES, WORD_TABLE, build_graph
from serving.text_model.text_model import TextModel, join_vectors
from serving.text_model.text_source import ENCODERS, FILES, PACKAGES, package_folder
from serving.zeroshot import ZeroShot
from serving.zeroshot.label_text import normalise_label
from training.data.known_classes import class_descriptions
from training.text_encoders import sentence, text_encoder
from training.zeroshot_maps import class_vectors, text_vectors

WORDS = 150_000  # the most frequent of GloVe's words: "quacking" is number 149 277
# Smallest accepted cosine between a text's vector and that of the original: MiniLM in PyTorch, GloVe in FP32. The
# rounding of the weights to FP16 and INT8 leaves 0.9999; a wrong operator or weight gives less than 0.99.
LEAST_COSINE = 0.9995
# Texts of the proof beside the names and descriptions of the classes; the last has more tokens than MiniLM reads.
OTHER_TEXTS = ("rain", "?", "a", "word " * 400)


def write_text_model(folder: Path, encoder: str, class_texts: str = "description") -> dict[str, Any]:
    """Write the text model of an encoder into folder/text, and compare it with the original (`prove`).

    encoder      glove, minilm or glove+minilm
    class_texts  one of serving.text_model.text_source.CLASS_TEXTS
    returns  "encoder", "bytes" of each file, and the result of `prove`
    errors   UsageError: another encoder; ParityError: the written model gives other vectors than the original
    """
    refuse_other_encoder(encoder)
    name_text_model(folder, encoder, class_texts)
    names, lines = list(_descriptions()), list(_descriptions().values())
    if "glove" in ENCODERS[encoder]:
        write_glove(folder / GLOVE_WORDS, [*names, *lines])
    if "minilm" in ENCODERS[encoder]:
        write_minilm(folder / MINILM_MODEL, folder / MINILM_TOKENIZER)
    files = (TEXT_CONFIG, DESCRIPTIONS, *(name for part in ENCODERS[encoder] for name in FILES[part]))
    sizes = {name: (folder / name).stat().st_size for name in files}
    texts = lines if encoder == "glove" else [*names, *lines, *OTHER_TEXTS]  # GloVe alone does not know all names
    return {"encoder": encoder, "bytes": sizes} | prove(folder, encoder, texts)


def name_text_model(folder: Path, encoder: str, class_texts: str = "description") -> None:
    """Write only the name of the encoder and the class descriptions into folder/text: 6 kB.

    Typed labels then work where the packages with the encoder's weights are installed.
    """
    (folder / TEXT_CONFIG).parent.mkdir(exist_ok=True)
    (folder / DESCRIPTIONS).write_text(json.dumps(_descriptions(), indent=1) + "\n")
    config: dict[str, Any] = {"encoder": encoder, "class_texts": class_texts}
    if "minilm" in ENCODERS[encoder]:
        stored = json.loads((minilm_folder() / "sentence_bert_config.json").read_text())
        config["max_tokens"] = stored["max_seq_length"]  # training truncates texts to the same number
    (folder / TEXT_CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def refuse_other_encoder(encoder: str) -> None:
    """UsageError: an encoder that a bundle cannot contain."""
    if encoder not in ENCODERS:
        raise UsageError(
            f"text model: got a run with --text {encoder}; a bundle can contain {', '.join(ENCODERS)}. Export with "
            "--no-text-model (its own classes are still ranked, others cannot be typed), or train with one of these"
        )


def with_text_mean(zeroshot: ZeroShot, encoder: str, class_texts: str = "description") -> ZeroShot:
    """The same map with its `text_mean`, computed from the current class descriptions.

    errors   DataError: the class vectors were made by another encoder or from other descriptions
    """
    texts = text_vectors(zeroshot.class_names, text_encoder(encoder), class_texts)
    current = class_vectors(texts, zeroshot.seen)
    if current.shape != zeroshot.class_vectors.shape or not np.allclose(current, zeroshot.class_vectors, atol=1e-4):
        raise DataError(
            f"class vectors: not made by {encoder} from the present training/data/classes.toml, so typed labels would "
            "not be comparable with them; train again, or --no-text-model"
        )
    return replace(zeroshot, text_mean=texts[zeroshot.seen].mean(axis=0))


def write_glove(path: Path, texts: list[str]) -> None:
    """Write the most frequent words and all known words of these texts, as serving.text_model.glove.FORMS says."""
    glove = Glove.of_package(package_folder(PACKAGES["glove"]))
    known = glove.words()
    common = [word for word in known if split_words(word) == [word]][:WORDS]
    used = {word for text in texts for word in split_words(text)}.intersection(known)
    words = sorted({*common, *used})  # ASCII only, so this is the order of their bytes
    quantised, scales = quantise_rows(glove.word_vectors(words))
    lengths = np.array([len(word) for word in words], np.uint8)
    encoded = np.frombuffer("".join(words).encode(), np.uint8)
    np.savez(path, vectors=quantised, scales=scales[:, 0], sorted_words=encoded, lengths=lengths)


def quantise_rows(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round rows [n, size] float32 to int8. Returns the int8 rows and their factors [n, 1] float32."""
    scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12) / np.float32(127)
    return np.rint(rows / scales).astype(np.int8), scales


def write_minilm(path: Path, tokenizer: Path) -> None:
    """Write all-MiniLM-L6-v2 with smaller weights as ONNX, and its tokenizer."""
    tokenizer.write_bytes((minilm_folder() / "tokenizer.json").read_bytes())
    weights = load_file(minilm_folder() / "model.safetensors")
    words, scales = quantise_rows(weights.pop(WORD_TABLE))
    stored = {name: tensor.astype(np.float16) if tensor.ndim == 2 else tensor for name, tensor in weights.items()}
    stored |= {WORD_TABLE: words, WORD_SCALES: scales}
    graph = build_graph({name: numpy_helper.from_array(tensor, name) for name, tensor in stored.items()})
    write_graph(graph, path, {"model": "all-MiniLM-L6-v2", "license": "Apache-2.0"})


def minilm_folder() -> Path:
    """The folder of the original model in its package."""
    return package_folder(PACKAGES["minilm"]) / "model"


def _descriptions() -> dict[str, str]:
    return {normalise_label(name): line for name, line in class_descriptions().items()}


def prove(folder: Path, encoder: str, texts: list[str]) -> dict[str, Any]:
    """Compare the text model in a folder with the original: MiniLM by sentence-transformers in PyTorch, GloVe in FP32.

    returns  "reference", number of "texts", the required "least_cosine", "worst_cosine" and "worst_text"
    errors   ParityError: the cosine of a text is too small, or its vector is NaN
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
