"""Ranked labels, with two limits of their meaning: the level of the sound, and unknown words in the labels."""

from collections.abc import Iterable

from serving.audio import is_silent


class Ranking(list[tuple[str, float]]):
    """A list of (label, probability) pairs, most probable first.

    level_dbfs     peak level of the sound, see `serving.audio.level_dbfs`
    silent         the sound is below `serving.audio.SILENT_DBFS`, so the ranking has no meaning
    unknown_words  label -> the words that the text model does not know, for labels with other, known words
    """

    def __init__(self, pairs: Iterable[tuple[str, float]], level_dbfs: float, unknown_words: dict[str, list[str]]):
        super().__init__(pairs)
        self.level_dbfs = level_dbfs
        self.unknown_words = unknown_words

    @property
    def silent(self) -> bool:
        """See the class."""
        return is_silent(self.level_dbfs)
