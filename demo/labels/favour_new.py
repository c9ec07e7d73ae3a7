"""How far the page's slider "favour new sounds" goes. What it says is added to the bundle's own offset."""

import math

import numpy as np
from numpy.typing import NDArray

from serving.zeroshot import ZeroShot

STEP = 0.1
# Of the temperature, where there are no sounds to measure the spread of scores on. For a yamnet-audioset of temperature
# 18.2, the best trained class leads the best other one by up to 12.5 on 95 % of 400 clips of ESC-50: 0.69 of it.
SHARE_OF_TEMPERATURE = 0.7


def largest_favour(zeroshot: ZeroShot, embeddings: NDArray[np.float32] | None) -> float:
    """The end of the slider. There, hardly any class that was trained on still ranks before the others.

    embeddings  [n, 128] float32 of any sounds, to measure the spread of the scores on. At the end, the offset is the
                distance from the best class to the upper quartile of the classes, which 95 % of the sounds do not
                exceed. None: SHARE_OF_TEMPERATURE
    returns     in units of a score, a multiple of STEP, above 0
    """
    if embeddings is None or not len(embeddings):
        spread = SHARE_OF_TEMPERATURE * zeroshot.temperature
    else:
        scores = zeroshot.temperature * zeroshot.cosines(embeddings)  # [n, classes]
        spread = float(np.quantile(scores.max(axis=1) - np.quantile(scores, 0.75, axis=1), 0.95))
    return round(math.ceil(max(spread - zeroshot.offset, STEP) / STEP) * STEP, 1)
