"""all-MiniLM-L6-v2 (Reimers 2019, arXiv:1908.10084) in NumPy: texts -> vectors [n, 384] of unit length.

The weights stay in their file: each call reads them anew, a matrix at a time. Labels are typed now and then, and
remembered; the 43 MB that the layers take in FP32 would be held for as long as the server runs.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from serving.errors import BundleError

LAYERS, HEADS, SIZE, INNER = 6, 12, 384, 1536
EPSILON = 1e-12  # of the layer norms
PASS_TOKENS = 512  # in one reading of the weights: what a pass takes grows with them, to some 20 MB
LETTERS_A_PIECE = 2  # of a word that is not known; see `MiniLm.knows`
WORDS = "embeddings.word_embeddings.weight"
SCALES = "embeddings.word_embeddings.scales"  # [words, 1] float32, in files whose word table is INT8


class MiniLm:
    """BERT of six layers with a mean over the tokens. Safe to use from several threads.

    model       .safetensors with BERT's names: matrices in FP32 or FP16, the word table also in INT8 with SCALES
    tokenizer   tokenizer.json
    max_tokens  of a text; what is over is cut off
    errors      BundleError, of a call as well: the file cannot be read, or holds something else
    """

    def __init__(self, model: Path, tokenizer: Path, max_tokens: int):
        import tokenizers

        self._model = model
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

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
        """[n, 384] float32, unit rows."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        try:
            return np.concatenate([self._encode(some) for some in _passes(tokens)])
        except (OSError, SafetensorError) as error:
            raise BundleError(f"{self._model}: cannot be read as MiniLM's weights ({error}); get it anew") from error

    def _encode(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Texts end to end, with no padding between: only attention asks where each begins."""
        ends = np.cumsum([len(text) for text in tokens])
        texts = [slice(end - len(text), end) for text, end in zip(tokens, ends, strict=True)]
        with safe_open(self._model, framework="numpy") as file:
            weights = _Weights(file)
            hidden = weights.rows(WORDS, [token for text in tokens for token in text])  # [n_tokens, 384]
            if SCALES in file.keys():  # noqa: SIM118  it is no dictionary
                hidden *= weights.rows(SCALES, [token for text in tokens for token in text])
            positions = weights.matrix("embeddings.position_embeddings.weight")
            hidden += np.concatenate([positions[: len(text)] for text in tokens])
            hidden += weights.matrix("embeddings.token_type_embeddings.weight")[0]  # every text is of the first kind
            hidden = weights.norm(hidden, "embeddings")
            for i in range(LAYERS):
                layer = f"encoder.layer.{i}"
                attended = weights.linear(_attend(hidden, weights, layer, texts), f"{layer}.attention.output.dense")
                hidden = weights.norm(hidden + attended, f"{layer}.attention.output")
                inner = gelu(weights.linear(hidden, f"{layer}.intermediate.dense"))  # [n_tokens, 1536]
                hidden = weights.norm(hidden + weights.linear(inner, f"{layer}.output.dense"), f"{layer}.output")
        means = np.stack([hidden[text].mean(axis=0) for text in texts])
        return means / np.linalg.norm(means, axis=1, keepdims=True)


class _Weights:
    """An open file's tensors as float32; one matrix at a time, since FP16 ones share a buffer."""

    def __init__(self, file: safe_open):
        self._file = file
        self._buffer = np.empty(SIZE * INNER, np.float32)

    def rows(self, name: str, rows: Sequence[int]) -> NDArray[np.float32]:
        table = self._file.get_slice(name)
        return np.concatenate([table[row : row + 1] for row in rows]).astype(np.float32)

    def matrix(self, name: str) -> NDArray[np.float32]:
        stored = self._file.get_tensor(name)
        return stored if stored.dtype == np.float32 else widen(stored, self._buffer[: stored.size])

    def linear(self, hidden: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        return hidden @ self.matrix(f"{name}.weight").T + self._file.get_tensor(f"{name}.bias")

    def norm(self, hidden: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        centred = hidden - hidden.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)
        return scaled * self._file.get_tensor(f"{name}.LayerNorm.weight") + self._file.get_tensor(
            f"{name}.LayerNorm.bias"
        )


def _attend(hidden: NDArray[np.float32], weights: _Weights, layer: str, texts: Sequence[slice]) -> NDArray[np.float32]:
    """Each text's tokens look at each other: [n_tokens, 384] -> [n_tokens, 384]."""
    query, key, value = (
        weights.linear(hidden, f"{layer}.attention.self.{part}").reshape(len(hidden), HEADS, -1).transpose(1, 0, 2)
        for part in ("query", "key", "value")
    )  # each [heads, n_tokens, size]
    attended = np.empty_like(hidden)
    for text in texts:
        scores = query[:, text] @ key[:, text].transpose(0, 2, 1) / np.float32(np.sqrt(SIZE // HEADS))  # [heads, n, n]
        shares = np.exp(scores - scores.max(axis=2, keepdims=True))
        shares /= shares.sum(axis=2, keepdims=True)
        attended[text] = (shares @ value[:, text]).transpose(1, 0, 2).reshape(-1, SIZE)
    return attended


def gelu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """x times the share of a normal distribution below x; erf after Abramowitz & Stegun 7.1.26, within 1.5e-7."""
    z = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    tail = np.float32(1.061405429) * t
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail += np.float32(coefficient)
        tail *= t
    tail *= np.exp(-z * z)  # 1 - erf(z)
    return np.where(x > 0, x - x * tail / 2, x * tail / 2)


def widen(half: NDArray[np.float16], out: NDArray[np.float32]) -> NDArray[np.float32]:
    """Finite float16 -> the same numbers in float32, [n] of memory at `out`, in the shape of `half`.

    By its bits, shifted to where float32 has them, which moves the exponent by 112: 3 ms for all layers, where NumPy's
    own conversion takes 18.
    """
    out = out.reshape(half.shape)
    bits = out.view(np.int32)
    np.left_shift(half.view(np.int16), 13, out=bits, dtype=np.int32)
    np.bitwise_and(bits, ~np.int32(0x70000000), out=bits)  # copies of the sign
    np.multiply(out, np.float32(2.0**112), out=out)
    return out


def _passes(tokens: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """The texts in turn, as many at once as PASS_TOKENS allows, and at least one."""
    some: list[Sequence[int]] = []
    for text in tokens:
        if some and sum(map(len, some)) + len(text) > PASS_TOKENS:
            yield some
            some = []
        some.append(text)
    yield some
