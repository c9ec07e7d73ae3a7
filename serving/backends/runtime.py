"""What every backend is to the rest: one call that makes embeddings of waveforms."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Waveforms [batch, samples] float32 -> log-mel [batch, frames, 64] float32. Safe to call from several threads.
FrontEnd = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Runtime(Protocol):
    """Waveforms [batch, samples] float32 -> embeddings [batch, 128] float32. Safe to call from several threads.

    name       onnxruntime, openvino or tensorrt
    version    of the library
    providers  what of this machine it runs on
    """

    name: str
    version: str
    providers: list[str]

    def __call__(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]: ...


class WithFrontEnd:
    """A runtime that takes log-mel, for waveforms: both parts can be called apart, each in a thread of its own."""

    def __init__(self, network: Runtime, front_end: FrontEnd):
        self.name, self.version, self.providers = network.name, network.version, network.providers
        self.network = network
        self.front_end = front_end

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """[batch, samples] float32 -> [batch, 128] float32."""
        return self.network(self.front_end(batch))
