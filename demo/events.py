"""How the page's components answer: a person gets HTML, a program JSON, both one plain line for wrong input."""

import html
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import gradio as gr

from demo.page_style import refusal
from serving.errors import UnheardError

AT_ONCE = 2  # recordings analysed at the same time; one inference uses every core already
QUEUE: dict[str, Any] = {"concurrency_limit": AT_ONCE, "concurrency_id": "model", "show_progress": "hidden"}
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
FAULT = "Something went wrong here, and not with what you sent. The demo's log says what."


def react(
    listen: Callable[..., Any],
    answer: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    blank: Sequence[Any] | None = None,
    **queue: Any,
) -> Any:
    """Let components answer an event. Returns the event, for what is to come after it.

    answer  the inputs' values -> the outputs' new ones. Where it raises an UnheardError, the first output becomes a
            card with that line; after any other fault, one that says that it is ours, and the log has the traceback
    blank   what the other outputs become then. None: no output can hold a card, so all stay and a note comes up
    queue   settings of the event that differ from QUEUE
    """

    def told(card: str, note: str) -> Any:
        if blank is not None:
            return [card, *blank] if blank else card
        gr.Warning(html.escape(note, quote=False))
        return [gr.skip() for _ in outputs] if len(outputs) > 1 else gr.skip()

    @wraps(answer)
    def answer_plainly(*values: Any) -> Any:
        try:
            return answer(*values)
        except UnheardError as error:
            return told(refusal(str(error)), str(error))

    shown = listen(answer_plainly, list(inputs), list(outputs), **{**PRIVATE, **QUEUE, **queue})
    shown.failure(lambda: told(refusal(FAULT), FAULT), None, list(outputs), **PRIVATE, show_progress="hidden")
    return shown


def add_action(answer: Callable[..., Any], inputs: Sequence[Any], api_name: str, **queue: Any) -> None:
    """Offer a function to programs, under a name that stays: what it returns comes as JSON.

    The parameters' names are the function's. An UnheardError reaches the program as its one line.
    """

    @wraps(answer)
    def answer_plainly(*values: Any) -> Any:
        try:
            return answer(*values)
        except UnheardError as error:
            raise gr.Error(str(error), print_exception=False) from error

    # Neither is ever drawn: the button carries the event, and JSON the answer.
    trigger, numbers = gr.Button(visible=False), gr.JSON(label="answer", visible=False)
    trigger.click(answer_plainly, list(inputs), numbers, api_name=api_name, **{**QUEUE, **queue})
