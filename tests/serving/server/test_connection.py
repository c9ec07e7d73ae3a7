"""The connection and the version of uvicorn that it was written for."""

import asyncio
import inspect

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from serving.server.connection import ClientConnection

METHODS = [name for name, value in vars(ClientConnection).items() if inspect.isfunction(value)]
OVERRIDDEN = [name for name in METHODS if hasattr(HttpToolsProtocol, name)]


def test_the_connection_overrides_what_it_needs():
    assert {
        "connection_made",
        "connection_lost",
        "data_received",
        "pause_writing",
        "resume_writing",
        "on_message_begin",
        "on_url",
        "on_header",
        "on_headers_complete",
        "on_body",
        "on_response_complete",
        "_start_asgi_task",
        "send_400_response",
        "shutdown",
    } <= set(OVERRIDDEN)


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_uvicorns_methods_take_the_same_arguments(name):
    ours, theirs = (
        list(inspect.signature(getattr(cls, name)).parameters) for cls in (ClientConnection, HttpToolsProtocol)
    )
    assert ours == theirs


def test_uvicorns_protocol_and_requests_have_the_attributes_that_the_connection_uses():
    async def attributes() -> set[str]:
        config = uvicorn.Config(lambda: None, lifespan="off")
        return set(vars(HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())))

    assert {"connections", "pipeline", "cycle", "flow", "transport", "client", "loop", "server_state"} <= asyncio.run(
        attributes()
    )
    assert hasattr(ServerState(), "default_headers")
    assert {"disconnected", "message_event", "keep_alive", "more_body", "response_started", "response_complete"} <= set(
        RequestResponseCycle.__init__.__code__.co_names
    )
