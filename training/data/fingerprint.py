"""Names for what is stored by what it depends on: log-mels, pretrained weights, scores, and which clips are where."""

import hashlib
import json


def fingerprint(facts: object) -> str:
    """A short hash of what JSON can hold, for the name of a file or a folder: 16 hexadecimal digits.

    Equal objects have one hash, in whatever order their keys were added. TypeError: JSON cannot hold a value.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
