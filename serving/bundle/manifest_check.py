"""The types and bounds of a manifest, which may come from a stranger."""

import json
import re
import unicodedata
from dataclasses import asdict
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from serving.bundle.bundle_files import ALLOWED_FILES, PRECISIONS
from serving.bundle.manifest import Manifest
from serving.log_mel import LogMelConfig

MAX_TEXT = 1000  # characters of a text
MAX_ITEMS = 10_000  # classes, files, scores or layers
MAX_NUMBER = 1e12
MAX_WINDOW_S = 60.0
MOST_OVERLAPPING = 8  # windows over each sample: with a hop of one sample a clip of 5 s would be 4 GB of windows
RATES_HZ = (1000, 192_000)
MAX_FFT_BINS = 16_384
MAX_MEL_BANDS = 512
MAX_EMBEDDING_SIZE = 16_384
MAX_FILE_BYTES = 2**31  # an ONNX file is smaller
SHA256 = re.compile("[0-9a-f]{64}")
DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they turn the text around them

Checked = TypeVar("Checked")


def manifest_of(fields: dict[str, Any]) -> Manifest:
    """Build a manifest from the fields of manifest.json.

    errors   ValueError: a field is missing, unknown, of another type or out of bounds; the message is one line
    """
    _check_values(fields)
    manifest = _parse(Manifest, fields)
    _check_window(manifest)
    _check_front_end(_parse(LogMelConfig, manifest.front_end), manifest)
    if not 1 <= manifest.embedding_size <= MAX_EMBEDDING_SIZE:
        raise ValueError(f"embedding_size: got {manifest.embedding_size}, wanted 1 to {MAX_EMBEDDING_SIZE}")
    if manifest.input not in ("waveform", "log_mel"):
        raise ValueError(f"input: got {manifest.input}, wanted waveform or log_mel")
    if not SHA256.fullmatch(manifest.embedding_space):
        raise ValueError(f"embedding_space: got {manifest.embedding_space[:80]!r}, wanted a SHA-256")
    for precision, name in manifest.models.items():
        if PRECISIONS.get(precision) != name or name not in manifest.files:
            raise ValueError(f"models: got {precision} in {name!r}, wanted a listed file of {PRECISIONS}")
    for name, record in manifest.files.items():
        if not ALLOWED_FILES.fullmatch(name):
            raise ValueError(f"file {name!r} is not one that a bundle may have")
        if not 0 <= record.size <= MAX_FILE_BYTES or not SHA256.fullmatch(record.sha256):
            raise ValueError(f"file {name!r}: got {record}, wanted at most {MAX_FILE_BYTES} bytes and a SHA-256")
    return manifest


def _parse(kind: type[Checked], fields: dict[str, Any]) -> Checked:
    """Build a dataclass from exactly its fields, without conversions."""
    try:
        parsed = TypeAdapter(kind).validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))[:80] or "it"
        raise ValueError(f"{where}: got {str(first['input'])[:80]!r}; {first['msg'][:200]}") from error
    if asdict(cast(Any, parsed)) != fields:
        raise ValueError(f"it has more or fewer fields than {kind.__name__} of this program")
    return parsed


def _check_window(manifest: Manifest) -> None:
    window = manifest.window
    _check("window.rate_hz", window.rate_hz, *RATES_HZ)
    _check("window.samples", window.samples, 1, MAX_WINDOW_S * window.rate_hz)
    _check("window.hop_samples", window.hop_samples, window.samples / MOST_OVERLAPPING, window.samples)


def _check_front_end(config: LogMelConfig, manifest: Manifest) -> None:
    _check("front_end.rate_hz", config.rate_hz, manifest.window.rate_hz, manifest.window.rate_hz)
    _check("front_end.fft_bins", config.fft_bins, 2, MAX_FFT_BINS)
    _check("front_end.mel_bands", config.mel_bands, 1, MAX_MEL_BANDS)
    _check("front_end.window_s", config.window_s, 1 / config.rate_hz, config.fft_bins / config.rate_hz)
    _check("front_end.hop_s", config.hop_s, 1 / config.rate_hz, MAX_WINDOW_S)
    _check("front_end.high_hz", config.high_hz, 1e-3, config.rate_hz / 2)
    _check("front_end.low_hz", config.low_hz, 0, 0.999 * config.high_hz)
    _check("front_end.log_offset", config.log_offset, 1e-12, 1.0)
    _check("window.samples", manifest.window.samples, config.window_samples, MAX_WINDOW_S * config.rate_hz)


def _check(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}: got {value:g}, wanted {least:g} to {most:g}")


def _check_values(value: Any) -> None:
    """Bound the numbers, texts and lists, and refuse characters that change what a terminal shows."""
    if isinstance(value, str):
        if len(value) > MAX_TEXT or any(unicodedata.category(c) in ("Cc", "Cs") or c in DIRECTIONS for c in value):
            raise ValueError(f"got the text {value[:80]!r}, wanted at most {MAX_TEXT} printable characters")
    elif isinstance(value, int | float):
        if not -MAX_NUMBER <= value <= MAX_NUMBER:
            raise ValueError(f"got the number {value:.3g}, wanted at most {MAX_NUMBER:g}")
    elif isinstance(value, dict | list):
        if len(value) > MAX_ITEMS:
            raise ValueError(f"got {len(value)} items, wanted at most {MAX_ITEMS}")
        for item in value:
            _check_values(item)
            if isinstance(value, dict):
                _check_values(value[item])
