"""What is looked for: a sound, phrases, or both, and phrases that shall not be heard."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.audio import warn_in_python
from serving.audio.level import SILENT_DBFS
from serving.embedder import Embedder
from serving.errors import AudioError, LabelError, UsageError
from serving.search.phrases import Phrases
from serving.zeroshot import ZeroShot, unit_rows
from serving.zeroshot.label_text import check_label_length, normalise_label

SOUND = "sound"  # name of the condition that a given sound is


@dataclass(frozen=True, eq=False)
class Query:
    """Conditions for sounds. There is at least one that is wanted.

    space      embedding_space of the model that embeds the sound and understands the phrases
    sound      [size] float32: an embedding that found ones shall be like; None: there is none
    phrases    None: there are none
    unwanted   [n] bool: the condition shall not be met. The conditions are the sound, then the phrases
    mean       [size] float32: subtracted from embeddings before they are compared with the sound
    map_id     of the map that places embeddings for the phrases
    """

    space: str
    sound: NDArray[np.float32] | None
    phrases: Phrases | None
    unwanted: NDArray[np.bool_]
    mean: NDArray[np.float32]
    map_id: str

    @property
    def names(self) -> list[str]:
        """Names of the conditions."""
        return ([] if self.sound is None else [SOUND]) + (self.phrases.names if self.phrases else [])

    @cached_property
    def _sound_direction(self) -> NDArray[np.float32]:
        assert self.sound is not None, "asked only where there is a sound"
        return unit_rows((self.sound - self.mean)[None])[0]

    @property
    def is_phrase(self) -> NDArray[np.bool_]:
        """[n]: whether each condition is a phrase."""
        return np.arange(len(self.unwanted)) >= int(self.sound is not None)

    @property
    def claimed(self) -> NDArray[np.bool_]:
        """[n]: whether the score has the claim subtracted: of the only thing that is wanted, and of what is not wanted.

        A sound never has. Where several things are wanted, their scores are cosines.
        """
        return self.is_phrase & (self.unwanted if (~self.unwanted).sum() > 1 else np.ones(len(self.unwanted), bool))

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """How well embeddings [n_rows, size] meet each condition: [n_rows, n] float32.

        The sound by the cosine of the embeddings less the mean, a phrase by `Phrases.scores`.
        """
        columns = [] if self.sound is None else [unit_rows(embeddings - self.mean) @ self._sound_direction[:, None]]
        if self.phrases:
            columns.append(self.phrases.scores(embeddings, self.claimed[self.is_phrase]))
        return np.concatenate(columns, axis=1)

    def shown(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same scores [n_rows, n] as people read them: those with a claim as odds, see `Phrases.odds`."""
        return scores if self.phrases is None else np.where(self.claimed, self.phrases.odds(scores), scores)

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """For each condition the direction [n, size] along which the score grows: of a sound its unit vector, of a
        phrase `ZeroShot.directions`."""
        rows = [] if self.sound is None else [self._sound_direction[None]]
        return np.concatenate([*rows, *([self.phrases.directions] if self.phrases else [])])


def make_query(
    space: str,
    zeroshot: ZeroShot,
    sound: NDArray[np.float32] | None,
    phrases: Phrases | None,
    n_unwanted: int = 0,
) -> Query:
    """The query for a sound and phrases, of which the last n_unwanted shall not be heard.

    space, zeroshot   of the bundle that embedded the sound
    errors   UsageError: nothing is wanted; LabelError: beside a sound, a phrase has the name of the sound's own score
    """
    if sound is not None and phrases and SOUND in phrases.names:
        raise LabelError(f"got the words {SOUND!r} beside a recording, whose score has that name; use other words")
    n = int(sound is not None) + (len(phrases.names) if phrases else 0)
    if n <= n_unwanted:
        raise UsageError("search: got nothing to look for; give a sound or words")
    return Query(space, sound, phrases, np.arange(n) >= n - n_unwanted, zeroshot.mean, zeroshot.map_id)


def choose_phrases(embedder: Embedder, texts: Sequence[str]) -> Phrases | None:
    """The phrases for texts; None: there are none. LabelError: one cannot be understood, or is there twice."""
    check_phrases(texts)
    return Phrases(embedder.zeroshot, embedder.choose(texts)) if texts else None


def check_phrases(texts: Sequence[str]) -> None:
    """LabelError: a text is none, is empty, is there twice, or takes the text model long."""
    known: set[str] = set()
    for text in texts:
        if not isinstance(text, str):
            raise LabelError(f"words: got {text!r:.80}; wanted a text, like 'rain on a tin roof'")
        if not text.strip():
            raise LabelError("words: got an empty text; wanted words for a sound, like 'rain on a tin roof'")
        check_label_length(text)
        if normalise_label(text) in known:
            raise LabelError(f"words: got {text!r} twice; give each text once, as wanted or as not wanted")
        known.add(normalise_label(text))


def embed_sound(embedder: Embedder, path: Path, per: str) -> NDArray[np.float32]:
    """The embedding [size] of a file of any length, pooled over its windows as `serving.pooling.pool_like` does it.

    per      what each row is that the sound is compared with: "clip" or "window"
    errors   AudioError: it cannot be read, or is silent
    warns    AudioWarning: it was read only in part
    """
    total, n, is_heard = np.zeros(embedder.manifest.embedding_size), 0, False
    with embedder.stream(path) as stream:
        for block in stream:
            heard = np.asarray(block.levels_dbfs) >= SILENT_DBFS
            rows = block.rows if per == "clip" else block.rows[heard]
            total += rows.sum(axis=0, dtype=np.float64)
            n += len(rows)
            is_heard |= bool(heard.any())
    for warning in stream.warnings:
        warn_in_python(warning)
    if not is_heard:
        raise AudioError(f"{path}: is silent, so no sound is like it; give another")
    return (total / n).astype(np.float32)
