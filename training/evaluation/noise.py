"""Even noise: what a network makes of it, and from which cosine a sound counts as noise.

White, pink and brown noise is synthesised at several levels. Its embeddings become prototypes, beside the classes'.
The threshold is the largest cosine of any clip of the data to a prototype: no clip of rain, waves or machines is noise.
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
LEVELS_DBFS = ((0, -6, -12, -20), (-30,), (-40,))  # of the peak; the front end hides more the softer a sound is
SEEDS = (0, 1)  # of the prototypes
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
    noise = unit_rows(np.stack([zeroshot.mapped(rows).mean(axis=0) for rows in groups]))
    largest = float((zeroshot.mapped(clips) @ noise.T).max())
    threshold = float(np.nextafter(np.float32(largest), np.float32(2)))
    known = replace(zeroshot, noise=noise, noise_threshold=threshold)
    judged = embed([*COLOURS, *BETWEEN], [level for levels in LEVELS_DBFS for level in levels], JUDGED_SEEDS)
    return known, float(known.is_noise(judged).mean())


@torch.inference_mode()
def _embed(network: Network, config: RunConfig, wave: NDArray[np.float32], device: torch.device) -> NDArray[np.float32]:
    """The mean of the embeddings of a sound's windows: [128]."""
    windows = cut_windows(wave, config.front_end.network_window(config.window_frames))
    log_mel = LogMel(config.front_end)(torch.from_numpy(windows))
    return network.embed(log_mel.to(device)).mean(dim=0).cpu().numpy()
