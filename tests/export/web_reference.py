"""What Python computes, as JSON: the unit tests of web/ compare the page's code with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from demo.bundle_choice import FROM_SCRATCH, SHIPPED
from demo.expected_score import expectation
from demo.favour_new import largest_favour
from demo.heard import clock, heard
from demo.label_kinds import LabelKind
from demo.smoothing import smooth_rows, windows_together
from demo.typed_labels import read_labels
from serving.audio import Window, level_dbfs
from serving.audio.resampling import resample
from serving.errors import LabelError
from serving.label_text import normalise_label
from serving.text_model.glove import Glove
from serving.text_model.text_model import TextModel
from serving.text_model.text_source import PACKAGES, package_folder
from serving.zeroshot import ZeroShot

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
SEEN, TYPED, UNSEEN = LabelKind.SEEN, LabelKind.TYPED, LabelKind.UNSEEN
EXPECTED = (
    (("a", SEEN),),
    (("a", SEEN), ("b", SEEN)),
    (("a", TYPED), ("b", UNSEEN)),
    (("a", SEEN), ("b", TYPED)),
    (("a", SEEN), ("b", TYPED), ("c", UNSEEN)),
)
MIXED = {"mixed_seen": {"1+1": 0.8, "40+5": 0.6}, "mixed_unseen": {"1+1": 0.7, "40+5": 0.3}}


def write_reference(path: Path) -> None:
    """Write the JSON file."""
    content = {
        "resample": [_resampled(rate_hz) for rate_hz in RATES_HZ],
        "windows": [_windows(window) for window in WINDOWS],
        "levels": [[wave, level_dbfs(np.array(wave, np.float32))] for wave in ([0.0, 0.0], [0.5, -0.75], [1e-7])],
        "zeroshot": [_map(folder) for folder in (SHIPPED, FROM_SCRATCH)],
        "labels": [_labels(text) for text in LABEL_TEXTS],
        "normalised": [
            [text, normalise_label(text)] for text in (" Sea__Waves ", "É", "STRASSE", "Straße", "a\u00a0b")
        ],
        "heard": _heard(),
        "clock": [[seconds, clock(seconds)] for seconds in (0, 4.5, 59.5, 3599.4, 3723.0)],
        "expectation": [_expectation(kinds, more) for kinds in EXPECTED for more in ({}, MIXED)],
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


def _map(folder: Path) -> dict[str, Any]:
    zeroshot = ZeroShot.load(folder / "zeroshot.npz")
    rng = np.random.default_rng(1)
    embeddings = (zeroshot.mean + rng.standard_normal((6, len(zeroshot.mean))) * 0.1).astype(np.float32)
    names = ("mean", "projection", "class_vectors", "text_mean", "text_projection", "noise", "noise_thresholds")
    arrays = {name: getattr(zeroshot, name) for name in names if getattr(zeroshot, name) is not None}
    if zeroshot.noise is not None:  # one of the embeddings is noise
        embeddings[0] = zeroshot.mean + np.linalg.pinv(zeroshot.projection.T) @ zeroshot.noise[0]
    some = zeroshot.class_names[::3][::-1]
    return {
        "facts": {
            "class_names": zeroshot.class_names,
            "seen": zeroshot.seen.tolist(),
            "temperature": zeroshot.temperature,
            "offset": zeroshot.offset,
            "balanced": zeroshot.balanced,
            "threshold": zeroshot.threshold,
        },
        "arrays": {name: [list(array.shape), array.ravel().tolist()] for name, array in arrays.items()},
        "largest_favour": largest_favour(zeroshot, None),
        "embeddings": embeddings.tolist(),
        "ranked": [[offset, [zeroshot.rank(row, offset=offset) for row in embeddings]] for offset in (0.0, 1.5)],
        "similarities": zeroshot.similarities(embeddings).tolist(),
        "none_of_these": zeroshot.none_of_these(embeddings).tolist(),
        "some": some,
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


def _expectation(kinds: tuple[tuple[str, LabelKind], ...], more: dict[str, Any]) -> dict[str, Any]:
    scores = {"test_accuracy": 0.83, "unseen_top1": {"2": 0.9, "5": 0.6, "10": 0.4}} | more
    return {
        "scores": scores,
        "kinds": [[label, kind.value] for label, kind in kinds],
        "expected": expectation(scores, dict(kinds)),
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
