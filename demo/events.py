"""Connect functions to the page's events and to its API. Wrong input gives one line of text in both."""

import html
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

import gradio as gr

from demo.drawing.html_elements import error_card
from serving.errors import UnheardError

MAX_PARALLEL = 2  # recordings processed at the same time; one inference already uses every core
QUEUE: dict[str, Any] = {"concurrency_limit": MAX_PARALLEL, "concurrency_id": "model", "show_progress": "hidden"}
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
FAULT = "An internal error occurred. Your input is not the cause. The demo's log has the details."


def handle_event(
    listen: Callable[..., Any],
    answer: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    blank: Sequence[Any] | None = None,
    **queue: Any,
) -> Any:
    """Call a function when an event of the page occurs, and show its result or its error.

    listen   registers a function for the event, e.g. `button.click`
    answer   values of the inputs -> new values of the outputs; a generator gives them more than once
    blank    values of the other outputs after an error, when the first output shows an error card. None: no output can
             show a card, so the outputs stay as they are and the page shows a warning
    queue    settings of the event that differ from QUEUE
    returns  the event, to chain further events
    An UnheardError is shown as its one line. Any other error is shown as FAULT, and its traceback is logged.
    """

    def error_values(card: str, note: str) -> Any:
        if blank is not None:
            return [card, *blank] if blank else card
        gr.Warning(html.escape(note, quote=False))
        return [gr.skip() for _ in outputs] if len(outputs) > 1 else gr.skip()

    @wraps(answer)
    def checked(*values: Any) -> Any:
        try:
            return answer(*values)
        except UnheardError as error:
            return error_values(error_card(str(error)), str(error))

    @wraps(answer)
    def checked_steps(*values: Any) -> Iterator[Any]:
        try:
            yield from answer(*values)
        except UnheardError as error:
            yield error_values(error_card(str(error)), str(error))

    shown = listen(
        checked_steps if inspect.isgeneratorfunction(answer) else checked,
        list(inputs),
        list(outputs),
        **{**PRIVATE, **QUEUE, **queue},
    )
    shown.failure(
        lambda: error_values(error_card(FAULT), FAULT), None, list(outputs), **PRIVATE, show_progress="hidden"
    )
    return shown


def add_action(answer: Callable[..., Any], inputs: Sequence[Any], api_name: str, **queue: Any) -> None:
    """Add a function to the page's API. It returns JSON and is named api_name.

    The API's parameters have the names of the function's parameters. An UnheardError is sent as its one line.
    """

    @wraps(answer)
    def checked(*values: Any) -> Any:
        try:
            return answer(*values)
        except UnheardError as error:
            raise gr.Error(str(error), print_exception=False) from error

    # Gradio needs a component for the event and one for the result. Both are invisible.
    trigger, numbers = gr.Button(visible=False), gr.JSON(label="answer", visible=False)
    trigger.click(checked, list(inputs), numbers, api_name=api_name, **{**QUEUE, **queue})
