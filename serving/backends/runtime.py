"""The contract of every backend: a front end and a network, which together turn waveforms into embeddings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# A batch [n, ...] float32 -> a batch [n, ...] float32. Safe to call from several threads.
Stage = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Graph(Protocol):
    """One model on one backend: a `Stage` that says what runs it.

    name       onnxruntime, openvino or tensorrt
    version    of the library
    providers  what of this machine it runs on
    """

    name: str
    version: str
    providers: list[str]

    def __call__(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]: ...


def identity(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """The front end of a graph that has its own: returns the waveforms as they are."""
    return batch


@dataclass(frozen=True)
class Runtime:
    """A bundle's model: waveforms [n, samples] float32 -> embeddings [n, 128] float32.

    network    what the front end gives -> embeddings [n, 128] float32
    front_end  waveforms [n, samples] -> what the network takes: log-mel [n, frames, 64], or the waveforms themselves
               (`identity`) where one graph holds both. The two may run in different threads.
    """

    network: Graph
    front_end: Stage = identity

    @property
    def name(self) -> str:
        """onnxruntime, openvino or tensorrt."""
        return self.network.name

    @property
    def version(self) -> str:
        """Of the library that runs the network."""
        return self.network.version

    @property
    def providers(self) -> list[str]:
        """What of this machine the network runs on."""
        return self.network.providers

    @property
    def is_one_graph(self) -> bool:
        """Whether the network takes waveforms."""
        return self.front_end is identity

    def __call__(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, samples] float32 -> [n, 128] float32."""
        return self.network(self.front_end(waveforms))
