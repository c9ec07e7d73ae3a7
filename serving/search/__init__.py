"""An index of embedded sounds on disk, and the search in it by a sound, by words, or by both."""
