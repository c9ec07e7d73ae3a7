"""The settings of a bulk job: everything that its rows depend on."""

from collections.abc import Mapping
from typing import Any

SPACE = "embedding_space"  # the key that differs between bundles
MODEL = "model"  # and the key of the model's SHA-256, which differs between the precisions of a bundle too
SHOWN = 12  # digits of a SHA-256, enough to tell bundles apart


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How settings differ, for messages: "another bundle (...) and other settings (...)"; "": they do not."""
    changed = [key for key in {**now, **was} if was.get(key) != now.get(key)]
    parts = []
    if SPACE in changed:
        parts.append(f"another bundle ({_change(SPACE, was, now)})")
    # Another bundle has another model.
    others = [_change(key, was, now) for key in changed if key != SPACE and not (key == MODEL and SPACE in changed)]
    if others:
        parts.append(f"other settings ({'; '.join(others)})")
    return " and ".join(parts)


def _change(key: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    then, today = (str(each.get(key))[: SHOWN if key in (SPACE, MODEL) else None] for each in (was, now))
    return f"{key.replace('_', ' ')} was {then}, now {today}"
