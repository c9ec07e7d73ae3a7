"""The contract of the backends: a runtime is a front end followed by a network, and maps waveforms to embeddings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Maps a batch [n, ...] float32 to a batch [n, ...] float32. Can be called from several threads at once.
Stage = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Graph(Protocol):
    """One model file opened by one backend: a `Stage` with the facts of what runs it.

    name       onnxruntime, openvino or tensorrt
    version    version of that library
    providers  the providers or devices that it runs on
    """

    name: str
    version: str
    providers: list[str]

    def __call__(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]: ...


def identity(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """The front end for a graph that contains the front end: returns the waveforms unchanged."""
    return batch


@dataclass(frozen=True)
class Runtime:
    """A bundle's model: waveforms [n, samples] float32 -> embeddings [n, 128] float32.

    network    maps the front end's output to embeddings [n, 128] float32
    front_end  maps waveforms [n, samples] to the network's input: log-mel [n, frames, 64], or the waveforms unchanged
               (`identity`) if one graph contains both. The two may run in different threads
    """

    network: Graph
    front_end: Stage = identity

    @property
    def name(self) -> str:
        """onnxruntime, openvino or tensorrt."""
        return self.network.name

    @property
    def version(self) -> str:
        """Version of the library that runs the network."""
        return self.network.version

    @property
    def providers(self) -> list[str]:
        """The providers or devices that the network runs on."""
        return self.network.providers

    @property
    def is_one_graph(self) -> bool:
        """Whether the network contains the front end, and so takes waveforms."""
        return self.front_end is identity

    def __call__(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, samples] float32 -> [n, 128] float32."""
        return self.network(self.front_end(waveforms))
