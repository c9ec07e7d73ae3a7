"""The trace that a request belongs to: W3C Trace Context, https://www.w3.org/TR/trace-context/."""

import re
import secrets
from dataclasses import dataclass

TRACEPARENT = "traceparent"
# Later versions may have more fields after these.
FORM = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)


@dataclass(frozen=True)
class TraceContext:
    """One request's place in a trace; all are hexadecimal.

    trace_id   of the whole trace
    parent_id  of the step that sent the request; None: the trace begins here
    span_id    of the server's answer to it
    flags      as they came
    """

    trace_id: str
    parent_id: str | None
    span_id: str
    flags: str

    @property
    def traceparent(self) -> str:
        """The header for whoever goes on from the response."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    @property
    def log_fields(self) -> dict[str, str]:
        """The fields of a log line."""
        fields = {"trace_id": self.trace_id, "span_id": self.span_id}
        return fields | ({"parent_span_id": self.parent_id} if self.parent_id else {})


def take_up_trace(header: str) -> TraceContext | None:
    """The context in a header `traceparent`, with a new span; None: there is none, or it is not valid."""
    match = FORM.fullmatch(header.strip())
    if match is None or match["version"] == "ff" or (match["version"] == "00" and match["more"]):
        return None
    if not int(match["trace"], 16) or not int(match["parent"], 16):
        return None
    return TraceContext(match["trace"], match["parent"], secrets.token_hex(8), match["flags"])
