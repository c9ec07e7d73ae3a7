"""Text encoders: texts -> vectors, for class descriptions and labels. Each encoder is one callable.

The first three are those of serving (serving.text_model), so that a label typed later is encoded as the classes were.

glove           mean of the words' GloVe vectors (Pennington 2014; 6B, 50 numbers)
minilm          all-MiniLM-L6-v2 (Reimers 2019; 384 numbers)
glove+minilm    both, each of unit length, joined (434 numbers): the default
word2vec:FILE   mean of the words' vectors in the user's own file, in the format of word2vec or GloVe
sentence:MODEL  any sentence-transformers model: a folder, or a name on the Hugging Face hub
"""

import re
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.errors import DataError, UsageError
from serving.text_model.text_model import TextModel
from serving.text_model.text_source import ENCODERS as SERVED
from serving.zeroshot import unit_rows

TextEncoder = Callable[[Sequence[str]], NDArray[np.float32]]
DEFAULT_ENCODER = "glove+minilm"
HUB_NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")


@cache
def _served_model(encoder: str) -> TextModel:
    return TextModel.of_packages(encoder, {})


def _served(encoder: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit rows of one of serving's encoders. DataError for a text without a known word if GloVe is the only part.

    A class may have any name, unlike a label that a user types: MiniLM gives a vector for it.
    """
    vectors = _served_model(encoder).vectors(texts)
    return _known(texts, vectors, "GloVe") if encoder == "glove" else vectors


def _means(rows: Sequence[list[int]], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """For each text the mean of its rows of `vectors` [n_words, size], zeros if it has none: [n, size] float32."""
    means = np.zeros((len(rows), vectors.shape[1]), np.float32)
    for mean, own_rows in zip(means, rows, strict=True):
        if own_rows:
            mean[:] = np.asarray(vectors[own_rows]).mean(axis=0)
    return means


def _known(texts: Sequence[str], means: NDArray[np.float32], source: str) -> NDArray[np.float32]:
    """The means as unit rows; DataError names the first text without a known word."""
    for text, mean in zip(texts, means, strict=True):
        if not mean.any():
            raise DataError(f"text {text!r}: has no word that {source} knows; use more common words, or --text minilm")
    return unit_rows(means)


def known_vectors(names: Sequence[str], encode: TextEncoder) -> tuple[list[int], NDArray[np.float32]]:
    """The rows of `names` that an encoder knows, and their vectors [n_known, size]; a word model does not know all.

    Without a known name the vectors are [0, 0].
    """
    with suppress(DataError):  # at once: three times as fast
        return list(range(len(names))), encode(names)
    vectors: dict[int, NDArray[np.float32]] = {}
    for row, name in enumerate(names):
        with suppress(DataError):
            vectors[row] = encode([name])[0]
    return list(vectors), np.stack(list(vectors.values())) if vectors else np.zeros((0, 0), np.float32)


@cache
def _word2vec_table(path: Path) -> tuple[dict[str, int], NDArray[np.float32]]:
    """Words with their row numbers, and the vectors [n_words, size] float32. DataError if the file cannot be read."""
    from gensim.models import KeyedVectors

    try:
        header, binary = _word2vec_format(path)
        # The original word2vec tool cuts long words, also inside a UTF-8 character: such words are kept misspelt.
        table = KeyedVectors.load_word2vec_format(
            str(path), binary=binary, no_header=not header, unicode_errors="replace"
        )
        if not len(table) or not table.vector_size:
            raise ValueError("it holds no vectors")
    except (ValueError, OverflowError, EOFError, OSError, MemoryError, zlib.error) as error:
        raise DataError(
            f"{path}: not readable as word vectors ({_first_line(error)}); wanted word2vec's text or binary format, "
            "or GloVe's text"
        ) from error
    return table.key_to_index, table.vectors


def _word2vec_format(path: Path) -> tuple[bool, bool]:
    """Whether the file begins with a line of counts (as word2vec's do, unlike GloVe's), and whether it is binary."""
    from gensim import utils

    with utils.open(str(path), "rb") as file:  # it reads .gz and .bz2 too
        first = file.readline(1 << 16)
        if not first:
            raise ValueError("it is empty")
        header = re.fullmatch(rb"\d+ (\d+)", first.strip())
        if not header:
            return False, False
        numbers = file.readline(1 << 20).split()[1:]
    try:
        return True, len([float(number) for number in numbers]) != int(header[1])
    except ValueError:
        return True, True


def word2vec(path: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """[n, size of the file's vectors] float32, unit rows: the mean of the words that the file contains.

    A word is looked up in small letters first, then as it is written. Source: Mikolov 2013 (arXiv:1301.3781).
    errors   DataError: the file does not hold word vectors, or a text has no known word
    """
    index, vectors = _word2vec_table(path)
    words = [re.findall(r"[^\W_]+", text) for text in texts]
    forms = [[word.lower() if word.lower() in index else word for word in own] for own in words]
    means = _means([[index[word] for word in own if word in index] for own in forms], vectors)
    if not np.isfinite(means).all():
        raise DataError(f"{path}: holds vectors with values that are not finite numbers; give a complete file")
    return _known(texts, means, str(path))


@cache
def _sentence_model(place: str):
    """The model of a folder or of a hub name. DataError: no model in the folder, or the hub cannot deliver it."""
    import transformers.utils.logging
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    transformers.utils.logging.disable_progress_bar()
    local = Path(place).is_dir()
    name = place if local or "/" in place else f"sentence-transformers/{place}"
    missing = None if local else _missing_from_hub(name)
    try:
        return SentenceTransformer(name, device="cpu", local_files_only=local or missing is not None)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = missing or _first_line(error)
        if local:
            wanted = "wanted a folder as SentenceTransformer.save() writes it, with modules.json and the weights"
            raise DataError(f"{place}: not a sentence-transformers model ({reason}); {wanted}") from error
        raise DataError(
            f"text encoder {place}: no such folder here, and the Hugging Face hub cannot deliver it ({reason}); on a "
            f"machine with a network, fetch it with: hf download {name} --local-dir DIR, copy DIR to this machine, and "
            "give --text sentence:DIR"
        ) from error


def _missing_from_hub(name: str) -> str | None:
    """Why the hub cannot deliver a model, or None if it can. Asked first, because downloads retry for minutes."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import httpx

    try:
        HfApi().model_info(name, timeout=10)
    except (OSError, httpx.HTTPError) as error:
        return _first_line(error)
    return None


def sentence(place: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """[n, size of the model's vectors] float32, unit rows. place: a folder or a hub name; DataError: no such model.

    Source: Reimers 2019 (arXiv:1908.10084).
    """
    return unit_rows(_sentence_model(place).encode(list(texts), show_progress_bar=False).astype(np.float32))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")


ENCODERS: dict[str, TextEncoder] = {name: partial(_served, name) for name in SERVED}


def full_name(name: str) -> str:
    """An encoder's name with the absolute path of its file or folder, so that it is found from any folder."""
    kind, colon, place = name.partition(":")
    path = Path(place).expanduser()
    return f"{kind}:{path.resolve()}" if colon and place and path.exists() else name


def text_encoder(name: str) -> TextEncoder:
    """The encoder of a name. Files and models are opened when the first text is encoded.

    errors   UsageError: the name is unknown, or its file does not exist
    """
    if name in ENCODERS:
        return ENCODERS[name]
    kind, _, place = full_name(name).partition(":")
    match kind:
        case "word2vec" if place:
            if not Path(place).is_file():
                raise UsageError(f"text encoder {name}: no such file; give one of word vectors: --text word2vec:FILE")
            return partial(word2vec, Path(place))
        case "sentence" if place:
            if not Path(place).is_dir() and (Path(place).exists() or not HUB_NAME.fullmatch(place)):
                raise UsageError(f"text encoder {name}: neither a folder nor a model name of the hub (OWNER/MODEL)")
            return partial(sentence, place)
    wanted = ", ".join([*ENCODERS, "word2vec:FILE", "sentence:FOLDER_OR_NAME"])
    raise UsageError(f"text encoder: got {name}; wanted one of {wanted}")
