"""Build the page: a header, the choice of the bundle, and the tabs."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.themes import Base
from numpy.typing import NDArray

from demo.bundle_choice import BundleChoice
from demo.carried_sound import carry_sounds
from demo.events import MAX_PARALLEL, add_action, handle_event
from demo.examples import Example
from demo.header import draw_header, facts
from demo.labels.label_box import draw_promise
from demo.labels.label_presets import OWN, presets
from demo.library import Library, embed_examples
from demo.tabs.compare_runtimes import add_compare_runtimes
from demo.tabs.find_similar import add_find_similar
from demo.tabs.live import add_live
from demo.tabs.name_sound import add_name_sound
from demo.tabs.teach import add_teach
from serving.errors import AudioError

HERE = Path(__file__).parent
MAX_WAITING = 32  # requests in the queue
MAX_UPLOAD = "2gb"  # about 6 hours of 16 bits, mono, 48 kHz; a day as FLAC or MP3
SCRIPTS = ("player.js", "microphone.js")
UPLOADS_S = 3600  # uploads are deleted after this time and when the demo stops


def build_page(bundles: BundleChoice, examples: Sequence[Example] = (), library: Library | None = None) -> gr.Blocks:
    """Build the page. Each tab has its own function.

    library    recordings to search for similar sounds; None: the examples
    """

    @lru_cache(4)
    def of_examples(bundle: str) -> Library:
        return embed_examples(bundles.open(bundle), examples)

    def sounds(bundle: str) -> NDArray[np.float32] | None:
        try:
            return of_examples(bundle).embeddings if examples else None
        except AudioError:  # the tab that needs it says which example cannot be read
            return None

    def head(bundle: str) -> str:
        return draw_header(bundles.open(bundle))

    def promised(labels: str, descriptions: str, bundle: str) -> str:
        return draw_promise(bundles.open(bundle), labels, descriptions)

    def model(bundle: str) -> dict[str, object]:
        """Describe a bundle: network, data set, classes, scores, backend, precision, and if it accepts any label."""
        embedder = bundles.open(bundle)
        return {
            **facts(embedder),
            "scores": embedder.manifest.scores,
            "classes": embedder.zeroshot.class_names,
            "any_text": embedder.labels.knows_text,
        }

    with gr.Blocks(title="Unheard", analytics_enabled=False, delete_cache=(UPLOADS_S, UPLOADS_S)) as page:
        first = bundles.open(bundles.names[0])
        header = gr.HTML(draw_header(first), elem_id="header", elem_classes="bare")
        promise = gr.HTML(draw_promise(first, presets(first)[OWN], ""), elem_id="promise", elem_classes="bare")
        bundle = gr.Radio(
            bundles.names, value=bundles.names[0], label="bundle", elem_id="bundle", visible=len(bundles.names) > 1
        )
        with gr.Tabs(overflow_behavior="wrap"):
            with gr.Tab("Name that sound") as name_tab:
                named, name_offer, name_box = add_name_sound(bundles, bundle, examples, promise, sounds)
            with gr.Tab("Live") as live_tab:
                live_box = add_live(bundles, bundle, promise, sounds)
            with gr.Tab("Find similar"):
                similar = add_find_similar(bundles, bundle, examples, library, of_examples)
            with gr.Tab("Teach"):
                add_teach(bundles, bundle, examples, library, of_examples)
            with gr.Tab("Compare"):
                compared = add_compare_runtimes(bundles, bundle, examples)
        carry_sounds({"Name that sound": (named, name_offer), "Find similar": similar, "Compare": compared})
        for tab, box in ((name_tab, name_box), (live_tab, live_box)):
            handle_event(tab.select, promised, [box.labels, box.descriptions, bundle], [promise])
        handle_event(bundle.change, head, [bundle], [header], blank=())
        add_action(model, [bundle], "model")
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=MAX_PARALLEL)


def launch_settings() -> dict[str, Any]:
    """The settings of the page that Gradio takes at launch: theme, style, scripts and limits."""
    theme = Base(
        primary_hue="orange",
        neutral_hue="slate",
        radius_size="md",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(body_text_color_subdued="*neutral_500", block_background_fill_dark="*neutral_900")
    return {
        "theme": theme,
        "css": (HERE / "style.css").read_text(),
        "head": f"<style>{(HERE / 'frame.css').read_text()}</style>" + "".join(map(_script, SCRIPTS)),
        "max_file_size": MAX_UPLOAD,
        "footer_links": ["api", "settings"],
        "run_history": False,
        "ssr_mode": False,
        "quiet": True,
    }


def _script(name: str) -> str:
    return f"<script>{(HERE / name).read_text()}</script>"
