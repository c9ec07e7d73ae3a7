"""The tab "Teach": listen to the sounds that would teach most, answer with one key, and see the labels get better."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from demo.bundle_choice import BundleChoice
from demo.drawing.draw_teach import NOTHING_YET, draw_question
from demo.drawing.html_elements import SAVE_SCRIPT, SPEAK_SCRIPT
from demo.events import PRIVATE, handle_event
from demo.examples import Example
from demo.labels.typed_labels import read_labels
from demo.library import Library
from demo.tabs.find_similar import NO_LIBRARY, check_space
from demo.teach_session import TeachSession, begin, library_of_uploads
from serving.errors import UsageError

SCRIPT = Path(__file__).with_name("teach.js")
KEPT_S = 3600  # a session without an answer
ADVICE = (
    "Type two to nine labels. For each sound press y if the guess is right, n if it is none of the labels, or the "
    "label's number."
)


def add_teach(
    bundles: BundleChoice,
    bundle: gr.Radio,
    examples: Sequence[Example],
    library: Library | None,
    of_examples: Callable[[str], Library],
) -> None:
    """Add the tab's components and actions.

    library, of_examples   as for `add_find_similar`: the sounds to ask about where no recordings are uploaded
    """

    def start(labels: str, files: list[str] | None, bundle: str) -> tuple[str, TeachSession, Any]:
        embedder = bundles.open(bundle)
        if not files and library is None and not examples:
            raise UsageError(NO_LIBRARY)
        sounds, notes = library_of_uploads(embedder, files) if files else (library or of_examples(bundle), [])
        check_space(sounds, embedder, bundle)
        session = begin(embedder, read_labels(labels, embedder.zeroshot.class_names) or [], sounds, notes)
        return draw_question(session), session, gr.Button(visible=False)

    def answer(event: gr.EventData, session: TeachSession | None) -> tuple[str, TeachSession | None, Any]:
        if session is None:
            return NOTHING_YET, None, gr.Button(visible=False)
        began = time.perf_counter()
        session = _after(session, str(event.answer))
        _ = session.current  # taught again, and the next sound chosen
        milliseconds = 1000 * (time.perf_counter() - began)
        return draw_question(session, milliseconds), session, gr.Button(visible=bool(session.answers))

    def table(session: TeachSession | None) -> tuple[str, str]:
        if session is None:
            raise UsageError("answers: there is none yet; press Start")
        return "examples.csv", session.table()

    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320, elem_classes="sources"):
            labels = gr.Textbox("", label="labels to teach", info=ADVICE, lines=2, elem_id="teach-labels")
            files = gr.File(
                file_count="multiple",
                label="recordings (default: the library of “Find similar”)",
                elem_id="teach-files",
            )
            begun = gr.Button("Start", elem_id="teach-start")
            save = gr.Button("Download the answers for serving.teach", visible=False, size="sm", elem_classes="save")
        with gr.Column(scale=1, min_width=320, elem_classes="answers"):
            script = f"{SPEAK_SCRIPT}\n{SCRIPT.read_text()}"
            question = gr.HTML(NOTHING_YET, elem_id="question", elem_classes="bare", js_on_load=script)
    session = gr.State(None, time_to_live=KEPT_S)
    file_name, text = gr.Textbox(visible=False), gr.Textbox(visible=False)
    shown = [question, session, save]
    handle_event(begun.click, start, [labels, files, bundle], shown, blank=(None, gr.Button(visible=False)))
    # "multiple": a key that is pressed as soon as the next sound is shown must not be lost; teach.js waits for that.
    blank = (gr.skip(), gr.skip())
    handle_event(question.click, answer, [session], shown, blank=blank, trigger_mode="multiple")
    saved = handle_event(save.click, table, [session], [file_name, text])
    saved.then(None, [file_name, text], None, js=SAVE_SCRIPT, **PRIVATE)


def _after(session: TeachSession, answer: str) -> TeachSession:
    """The session after an answer of the page: yes, no, undo, or the number of a label. UsageError: another answer."""
    if answer == "undo" and session.answers:
        return session.undone()
    if session.current is not None:
        if answer == "yes":
            return session.answered(session.labels.index(session.guess[0][0]))
        if answer == "no":
            return session.answered(None)
        if answer.isdecimal() and int(answer) < len(session.labels):
            return session.answered(int(answer))
    raise UsageError(f"answer: got {answer[:20]!r}; wanted yes, no, undo or the number of a label")
