"""The gRPC server: its port and limits, in the event loop of the HTTP server."""

import math
from typing import Any

from serving.errors import UsageError
from serving.extras import pip_install
from serving.server.limits import Limits
from serving.server.process import GRACE_S, KEEP_ALIVE_S
from serving.server.reload import ReloadableApp
from serving.server.upload_slots import UploadSlots

INSTALL = f"--grpc-port: grpcio is not installed; get it with: {pip_install('grpc')}"
OTHER_BYTES = 65_536  # of a message besides its samples
STREAMS_PER_CONNECTION = 100  # calls at the same time
IDENTITY_ONLY = 1  # a bit set of compression algorithms: without a bound, a packed message could fill the memory


def check_grpc_installed() -> None:
    """errors: UsageError"""
    try:
        import grpc.aio  # noqa: F401
    except ImportError as error:
        raise UsageError(INSTALL) from error


def max_message_bytes(limits: Limits, rate_hz: int) -> int:
    """The largest message: what holds the most sound of one request, and no more than the largest upload."""
    return min(limits.max_upload_bytes, math.ceil(4 * limits.max_seconds * rate_hz) + OTHER_BYTES)


class GrpcServer:
    """The Open Inference Protocol on a port of its own. Only for the event loop's thread.

    host, port  as for HTTP; the port is free
    """

    def __init__(self, app: ReloadableApp, limits: Limits, host: str, port: int):
        self._app = app
        self._limits = limits
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._server: Any = None

    async def start(self) -> None:
        """Answer calls. RuntimeError: the port has been taken meanwhile."""
        from grpc import aio

        from serving.server.grpc_service import InferenceService

        limits = self._limits
        largest = max_message_bytes(limits, self._app.current.pipeline.embedder.manifest.window.rate_hz)
        slots = UploadSlots(max(1, limits.max_held_bytes // largest))
        self._server = aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # otherwise two servers could share the port
                ("grpc.max_receive_message_length", largest),
                ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
                ("grpc.max_allowed_incoming_connections", limits.max_connections),
                ("grpc.server_handshake_timeout_ms", round(1000 * limits.request_timeout_s)),
                ("grpc.max_connection_idle_ms", 1000 * KEEP_ALIVE_S),
                ("grpc.compression_enabled_algorithms_bitset", IDENTITY_ONLY),
            ],
        )
        self._server.add_generic_rpc_handlers((InferenceService(self._app, limits, slots),))
        self._server.add_insecure_port(self._address)
        await self._server.start()

    async def stop(self) -> None:
        """Refuse new calls, and finish those under way, as the HTTP server does."""
        if self._server:
            await self._server.stop(self._limits.request_timeout_s + GRACE_S)
