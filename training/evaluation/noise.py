"""Even noise: what a network makes of it, and from which cosine a sound counts as noise.

White, pink and brown noise is synthesised at several levels. Its embeddings become prototypes, beside the classes'.
Each has a threshold above the largest cosine of any clip of the data, so that no clip of rain, waves or machines, and
none with a long pause, is noise.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from serving.audio import cut_windows
from serving.zeroshot import ZeroShot, unit_rows
from training.log_mel_module import LogMel
from training.networks import Network
from training.run_folder import RunConfig

SECONDS = 5.0
LOWEST_HZ = 20.0
COLOURS = (0.0, 1.0, 2.0)  # white, pink, brown: power falls with this power of the frequency
BETWEEN = (0.5, 1.5)  # other colours, to judge with
# Of the peak. The softer the noise is, the more of it the front end's log offset hides.
LEVELS_DBFS = ((0, -6, -12, -20), (-30,), (-40,), (-50,), (-60,))
MARGIN = 1 / 3  # of the way from the largest cosine of a clip to 1, for clips that are not in the data
SEEDS = (0, 1)  # of the prototypes
JUDGED_LEVELS_DBFS = range(0, -70, -5)
JUDGED_SEEDS = (2, 3)


def coloured_noise(colour: float, level_dbfs: float, rate_hz: int, seed: int) -> NDArray[np.float32]:
    """Noise whose power falls with frequency ** colour, and whose peak has this level: [SECONDS * rate_hz]."""
    count = round(SECONDS * rate_hz)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / rate_hz)
    spectrum *= np.where(hz < LOWEST_HZ, 0.0, np.maximum(hz, LOWEST_HZ) ** (-colour / 2))
    wave = np.fft.irfft(spectrum, count)
    return (10 ** (level_dbfs / 20) * wave / np.abs(wave).max()).astype(np.float32)


def with_noise(
    zeroshot: ZeroShot, network: Network, config: RunConfig, clips: NDArray[np.float32], device: torch.device
) -> tuple[ZeroShot, float]:
    """The map with prototypes of noise and their threshold, and how much of other noise is found with them, 0 to 1.

    network  in eval mode;  clips: embeddings [n, 128] of the data
    """

    def embed(colours: Sequence[float], levels: Sequence[float], seeds: Sequence[int]) -> NDArray[np.float32]:
        rate_hz = config.front_end.rate_hz
        waves = [coloured_noise(c, level, rate_hz, seed) for c in colours for level in levels for seed in seeds]
        return np.stack([_embed(network, config, wave, device) for wave in waves])

    groups = [embed([colour], levels, SEEDS) for colour in COLOURS for levels in LEVELS_DBFS]
    noise = unit_rows(np.stack([zeroshot.place(rows).mean(axis=0) for rows in groups]))
    largest = (zeroshot.place(clips) @ noise.T).max(axis=0)  # [n]
    known = replace(zeroshot, noise=noise, noise_thresholds=largest + np.float32(MARGIN) * (1 - largest))
    judged = embed([*COLOURS, *BETWEEN], JUDGED_LEVELS_DBFS, JUDGED_SEEDS)
    return known, float(known.is_noise(judged).mean())


@torch.inference_mode()
def _embed(network: Network, config: RunConfig, wave: NDArray[np.float32], device: torch.device) -> NDArray[np.float32]:
    """The mean of the embeddings of a sound's windows: [128]."""
    windows = cut_windows(wave, config.front_end.network_window(config.window_frames))
    log_mel = LogMel(config.front_end)(torch.from_numpy(windows))
    return network.embed(log_mel.to(device)).mean(dim=0).cpu().numpy()
