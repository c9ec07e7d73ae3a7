"""What a process that decodes uploads does. It imports what decoding needs, and nothing of HTTP or of the model."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from serving.audio import PreparedRecording, Recording, Window
from serving.backends.runtime import Stage
from serving.bulk.network_server import RemoteNetwork
from serving.memory import give_memory_back
from serving.server.shared_file import SharedFile
from serving.server.thread_priority import lower_thread_priority

DecodePiece = tuple[int, str, float]


@dataclass(frozen=True)
class DecodeJob:
    """The bytes of a recording -> a network's input, in a process of `WorkerProcess`.

    The bytes are in `memory`, where the input takes their place. A piece of work is the number of bytes, the name of
    the recording for messages, and the longest duration in seconds; the result is the recording without its input, and
    the shape of the input.
    """

    memory: SharedFile
    window: Window
    front_end: Stage

    def open(self, network: RemoteNetwork | None) -> Callable[[DecodePiece], tuple[PreparedRecording, list[int]]]:
        """Prepare the process: as in the server, decoding has a lower priority than answers."""
        give_memory_back()
        lower_thread_priority()
        return self._decode

    def _decode(self, asked: DecodePiece) -> tuple[PreparedRecording, list[int]]:
        count, name, max_seconds = asked
        data = self.memory.read(count)
        self.memory.clear()
        recording = Recording.from_bytes(data, name, self.window.rate_hz, max_seconds)
        prepared = recording.prepare(self.window, self.front_end)
        self.memory.write(prepared.inputs)
        return replace(prepared, inputs=prepared.inputs[:0].copy()), list(prepared.inputs.shape)
