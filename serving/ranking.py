"""Ranked labels, and what to know of the sound and of the labels before one believes them."""

from collections.abc import Iterable

from serving.audio import is_silent


class Ranking(list[tuple[str, float]]):
    """A list of (label, probability) pairs, likeliest first.

    level_dbfs     peak level of the sound, see `serving.audio.level_dbfs`
    silent         the sound is too soft to be named: its ranking says nothing
    unknown_words  of labels that the text model knows only in part: label -> the words that it does not know
    """

    def __init__(self, pairs: Iterable[tuple[str, float]], level_dbfs: float, unknown_words: dict[str, list[str]]):
        super().__init__(pairs)
        self.level_dbfs = level_dbfs
        self.unknown_words = unknown_words

    @property
    def silent(self) -> bool:
        """Whether the level is below `serving.audio.SILENT_DBFS`."""
        return is_silent(self.level_dbfs)
