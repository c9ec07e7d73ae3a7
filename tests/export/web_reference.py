"""What Python computes, as JSON: the unit tests of web/ compare the page's code with it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from demo.bundle_choice import FROM_SCRATCH, SHIPPED
from demo.expected_score import expectation
from demo.heard import clock, heard
from demo.labels.favour_new import largest_favour
from demo.labels.label_kinds import LabelKind
from demo.labels.typed_labels import read_labels
from demo.smoothing import smooth_rows, windows_together
from export.web.site_files import zeroshot_arrays, zeroshot_facts
from serving.audio import Window, level_dbfs
from serving.audio.resampling import resample
from serving.errors import LabelError
from serving.text_model.glove import Glove
from serving.text_model.text_model import TextModel
from serving.text_model.text_source import PACKAGES, package_folder
from serving.zeroshot import ZeroShot, unit_rows
from serving.zeroshot.label_text import normalise_label
from serving.zeroshot.zeroshot_file import read_zeroshot

RATES_HZ = (8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 44_056)
WINDOWS = (Window(16_000, 77_040, 76_800), Window(16_000, 15_600, 15_360))
LABEL_TEXTS = (
    "dog, rain;  Sea_Waves",
    'one line\n"two, with a comma"\n\nONE LINE',
    '"dog, barking", rain',
    "drinking, sipping, rain",
    '"not closed, rain',
    '"a" b, c',
    "",
    "é, e\u0301, É",
    "x" * 301,
    "a " * 50 + "b",
    ", ".join(str(i) for i in range(201)),
)
TEXTS = (
    "rain",
    "short loud bursts of a rough animal voice",
    "Crème brûlée, naïve café!",
    "don't stop-me now... 3.5 km",
    "leaf blower zxqvwy",
    "雨 の 音",
    "a\tb\u200bc\u00a0d",
    "word " * 300,
    "q" * 120,
    "$5 & 50% ~ ^caret` _under_score",
    "ÅNGSTRÖM ß İstanbul",
)
S, T, U, OWN = LabelKind.SEEN, LabelKind.TAUGHT, LabelKind.UNSEEN, LabelKind.TYPED
EXPECTED = (
    (S,),
    (S, S),
    (U, OWN),
    (U, OWN, OWN, OWN),
    (U,) * 7,
    (S, OWN),
    (S, S, U, OWN),
    (S, T, U),
    (S, T),
    (T, T),
    (U, T),
)
MIXED = {"mixed_seen": {"2+2": 0.8, "20+5": 0.7, "x": 1.0}, "mixed_unseen": {"2+2": 0.6, "20+5": 0.25, "0+1": 1.0}}
SCORES = {
    "test_accuracy": 0.83,
    "unseen_top1": {"1": 1.0, "2": 0.9, "5": 0.6, "10": 0.4},
    "taught_accuracy": 0.75,
    "taught_accuracy_all": 0.25,
}


def write_reference(path: Path) -> None:
    """Write the JSON file."""
    content = {
        "resample": [_resampled(rate_hz) for rate_hz in RATES_HZ],
        "windows": [_windows(window) for window in WINDOWS],
        "levels": [[wave, level_dbfs(np.array(wave, np.float32))] for wave in ([0.0, 0.0], [0.5, -0.75], [1e-7])],
        "zeroshot": [_map(zeroshot) for zeroshot in _maps()],
        "labels": [_labels(text) for text in LABEL_TEXTS],
        "normalised": [
            [text, normalise_label(text)] for text in (" Sea__Waves ", "É", "STRASSE", "Straße", "a\u00a0b")
        ],
        "heard": _heard(),
        "clock": [[seconds, clock(seconds)] for seconds in (0, 4.5, 59.5, 3599.4, 3723.0)],
        "expectation": [_expectation(kinds, scores) for kinds in EXPECTED for scores in ({}, SCORES, SCORES | MIXED)],
        "tokens": _tokens(),
        "glove": _glove(),
    }
    path.write_text(json.dumps(content))


def _resampled(rate_hz: int) -> dict[str, Any]:
    rng = np.random.default_rng(rate_hz)
    time = np.arange(round(0.3 * rate_hz)) / rate_hz
    # In the passband of every filter: where one ends is a choice, which the proof of parity judges.
    wave = sum(0.15 * np.sin(2 * np.pi * (hz * time + rng.uniform())) for hz in (100, 900, 1_700, 3_300))
    wave = np.asarray(wave, np.float32)
    return {"rate_hz": rate_hz, "wave": wave.tolist(), "expected": resample(wave, rate_hz, 16_000).tolist()}


def _windows(window: Window) -> dict[str, Any]:
    hop, samples = window.hop_samples, window.samples
    lengths = [1, samples - 1, samples, samples + 1, samples + hop // 2, hop + samples // 2 - 1, hop + samples // 2]
    lengths += [hop + samples // 2 + 1, 5 * hop, 5 * hop + samples]
    rows = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    together = windows_together(window)
    return {
        "window": {"rate_hz": window.rate_hz, "samples": samples, "hop_samples": hop},
        "counts": [[length, window.count(length)] for length in lengths],
        "together": together,
        "rows": rows.tolist(),
        "smooth": smooth_rows(rows, together).tolist(),
    }


def _maps() -> list[ZeroShot]:
    """The shipped map, the one from scratch, and the shipped one with unseen classes, three taught ones, and four with
    targets of their own.
    """
    shipped, from_scratch = (read_zeroshot(folder / "zeroshot.npz") for folder in (SHIPPED, FROM_SCRATCH))
    rng = np.random.default_rng(3)
    sums = np.zeros((len(shipped.class_names) + 1, shipped.projection.shape[1]), np.float32)
    rows = [0, 3, -1]  # the last one is a new class, without a text
    sums[rows] = 3 * unit_rows(rng.standard_normal((3, sums.shape[1])).astype(np.float32))
    given = np.zeros_like(sums)
    given[2:6] = unit_rows(rng.standard_normal((4, sums.shape[1])).astype(np.float32))
    seen = np.append(shipped.seen, True)
    seen[5:13] = False
    taught = replace(
        shipped,
        class_names=[*shipped.class_names, "taught by sounds alone"],
        class_vectors=np.vstack([shipped.class_vectors, np.zeros_like(shipped.class_vectors[:1])]),
        seen=seen,
        example_sums=sums,
        prior_weight=2.5,
        balanced=True,
        given_targets=given,
    )
    return [shipped, from_scratch, taught]


def _map(zeroshot: ZeroShot) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    embeddings = (zeroshot.mean + rng.standard_normal((6, len(zeroshot.mean))) * 0.1).astype(np.float32)
    if zeroshot.noise is not None:  # embeddings that lie at each noise
        noisy = zeroshot.noise @ np.linalg.pinv(zeroshot.projection)
        embeddings = np.vstack([embeddings, zeroshot.mean + noisy]).astype(np.float32)
    arrays = zeroshot_arrays(zeroshot)
    some = zeroshot.class_names[::3][::-1]
    return {
        "facts": zeroshot_facts(zeroshot),
        "arrays": {name: [list(array.shape), array.ravel().tolist()] for name, array in arrays.items()},
        "largest_favour": largest_favour(zeroshot, None),
        "own_offset": zeroshot.own_offset,
        "has_examples": zeroshot.has_examples.tolist(),
        "embeddings": embeddings.tolist(),
        "ranked": [[offset, [zeroshot.rank(row, offset=offset) for row in embeddings]] for offset in (0.0, 1.5)],
        "similarities": zeroshot.similarities(embeddings).tolist(),
        "none_of_these": zeroshot.none_of_these(embeddings).tolist(),
        "noise": zeroshot.is_noise(embeddings).tolist(),
        "some": some,
        "own_offset_of_some": zeroshot.choose(some).own_offset,
        "ranked_some": [zeroshot.rank(row, some) for row in embeddings],
    }


def _labels(text: str) -> dict[str, Any]:
    known = ["drinking, sipping", "rain"]
    try:
        return {"text": text, "known": known, "labels": read_labels(text, known)}
    except LabelError as error:
        return {"text": text, "known": known, "error": str(error)}


def _heard() -> dict[str, Any]:
    starts, ends = [0, 1, 2, 3, 5, 6], [1, 2, 3, 4, 6, 6.5]
    labels, shares = ["a", "a", "", "b", "b", "b"], [0.5, 0.7, 0.9, 0.2, 0.4, 0.8]
    stretches = heard(starts, ends, labels, shares)
    listed = [[each.label, each.start_s, each.end_s, each.probability] for each in stretches]
    return {"starts": starts, "ends": ends, "labels": labels, "shares": shares, "expected": listed}


def _expectation(kinds: tuple[LabelKind, ...], scores: dict[str, Any]) -> dict[str, Any]:
    named = {str(i): kind for i, kind in enumerate(kinds)}
    return {
        "scores": scores,
        "kinds": [[label, kind.value] for label, kind in named.items()],
        "expected": expectation(scores, named),
    }


def _tokens() -> dict[str, Any] | None:
    """Token ids by the tokenizers library, and which words MiniLM knows."""
    folder = package_folder(PACKAGES["minilm"]) / "model"
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    model = TextModel.of_packages("minilm", {})
    return {
        "tokenizer": str(folder / "tokenizer.json"),
        "texts": [[text, tokenizer.encode(text).ids, model.unknown_words(text)] for text in TEXTS],
    }


def _glove() -> dict[str, Any]:
    words = sorted(["rain", "cafe", "of", "3"])
    vectors = np.random.default_rng(2).integers(-127, 128, (len(words), 5)).astype(np.int8)
    scales = np.linspace(0.01, 0.02, len(words)).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum([len(word) for word in words])]).astype(np.int32)
    glove = Glove(vectors.__getitem__, scales[:, None], "".join(words).encode(), starts, range(len(words)))
    texts = ("Rain of café", "nothing known", "rain,rain 3")
    return {
        "words": words,
        "vectors": vectors.ravel().tolist(),
        "scales": scales.tolist(),
        "texts": [[text, glove(text).tolist(), glove.knows(text)] for text in texts],
    }
