"""The whole way on a small scale: recordings -> run -> bundle -> embeddings and labels."""

import numpy as np

from serving.audio import read_audio


def test_a_trained_bundle_names_sounds_that_it_was_trained_on(recordings, embedder):
    clips = [(path.parent.name, path) for path in sorted(recordings.glob("*/*.wav"))]
    right = [embedder.classify(*read_audio(path))[0][0] == label for label, path in clips]
    assert np.mean(right) > 0.8
