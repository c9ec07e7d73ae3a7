"""The whole page: what is running, which bundle, and a tab for each view of it."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Base

from demo import library_map, page_style, recording_input, spectrogram
from demo.bundle_choice import Models
from demo.events import AT_ONCE, add_action, react
from demo.library import Library
from demo.tabs import compare_runtimes, find_similar
from demo.tabs.compare_runtimes import add_compare
from demo.tabs.find_similar import add_similar
from demo.tabs.live import add_live
from demo.tabs.name_sound import add_recognition
from serving.embedder import Embedder

WAITING = 32  # recordings that may wait for their turn
MAX_UPLOAD = "100mb"
KEPT_S = 3600  # uploads are deleted after this time, and when the demo ends
# The page ranks by the map, so its score comes first; a bundle whose every clip was trained on has its recipe's.
ACCURACIES = ("zeroshot_map_test_accuracy", "test_accuracy", "folds_accuracy")
TAGLINE = "Small networks that name sounds by what words say of them, also sounds they have never heard."


def build_page(models: Models, examples: Sequence[tuple[Path, str]] = (), library: Library | None = None) -> gr.Blocks:
    """The page, each view of it added by one function.

    examples   (file, name to show) pairs
    library    to find similar sounds in; None: the examples
    """

    def head(bundle: str) -> str:
        return _header(models.open(bundle))

    def model(bundle: str) -> dict[str, object]:
        """What a bundle is: network, data set, classes, scores, backend, precision, whether labels may be any text."""
        embedder = models.open(bundle)
        return {**_facts(embedder), "classes": embedder.zeroshot.class_names, "any_text": embedder.knows_text}

    with gr.Blocks(title="Unheard", analytics_enabled=False, delete_cache=(KEPT_S, KEPT_S)) as page:
        header = gr.HTML(_header(models.open(models.names[0])), elem_id="header", elem_classes="bare")
        bundle = gr.Dropdown(
            models.names,
            value=models.names[0],
            label="bundle",
            elem_id="bundle",
            filterable=False,
            visible=len(models.names) > 1,
        )
        with gr.Tabs(overflow_behavior="wrap"):
            with gr.Tab("Name that sound"):
                add_recognition(models, bundle, examples)
            with gr.Tab("Live"):
                add_live(models, bundle)
            with gr.Tab("Find similar"):
                add_similar(models, bundle, examples, library)
            with gr.Tab("Compare"):
                add_compare(models, bundle, examples)
        react(bundle.change, head, [bundle], [header], blank=())
        add_action(model, [bundle], "model")
    return page.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE)


def launch_settings() -> dict[str, Any]:
    """The part of the page's looks and limits that Gradio takes at its launch."""
    theme = Base(
        primary_hue="orange",
        neutral_hue="slate",
        radius_size="md",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(body_text_color_subdued="*neutral_500", block_background_fill_dark="*neutral_900")
    scripts = spectrogram.PLAYHEAD + recording_input.MICROPHONE
    return {
        "theme": theme,
        "css": "".join(view.STYLE for view in (page_style, spectrogram, find_similar, library_map, compare_runtimes)),
        "head": f"<style>{page_style.FRAME_STYLE}</style><script>{scripts}</script>",
        "max_file_size": MAX_UPLOAD,
        "footer_links": ["api", "settings"],
        "run_history": False,
        "ssr_mode": False,
        "quiet": True,
    }


def _facts(embedder: Embedder) -> dict[str, str]:
    manifest = embedder.manifest
    scores = (f"{manifest.scores[name]:.1%}" for name in ACCURACIES if name in manifest.scores)
    return {
        "bundle": embedder.bundle.folder.resolve().name,
        "network": manifest.network,
        "trained on": f"{manifest.dataset}, {len(manifest.seen_classes)} classes",
        "test accuracy": next(scores, "none"),
        "runs on": f"{embedder.backend}, {embedder.precision}",
    }


def _header(embedder: Embedder) -> str:
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{html.escape(value)}</dd></div>" for name, value in _facts(embedder).items()
    )
    return f"<header><h1>Unheard</h1><p>{TAGLINE}</p><dl>{rows}</dl></header>"
