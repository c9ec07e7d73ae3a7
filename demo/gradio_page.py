"""Build the page: a header, the choice of the bundle, and the tabs."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Base

from demo.bundle_choice import BundleChoice
from demo.events import MAX_PARALLEL, add_action, handle_event
from demo.library import Library
from demo.tabs.compare_runtimes import add_compare_runtimes
from demo.tabs.find_similar import add_find_similar
from demo.tabs.live import add_live
from demo.tabs.name_sound import add_name_sound
from serving.embedder import Embedder

HERE = Path(__file__).parent
MAX_WAITING = 32  # requests in the queue
MAX_UPLOAD = "100mb"
UPLOADS_S = 3600  # uploads are deleted after this time and when the demo stops
# The header shows the first of these that exists. The page ranks by the zero-shot map, so the map's accuracy is first.
# A bundle that was trained on all clips has only cross-validated accuracies.
ACCURACIES = ("zeroshot_map_test_accuracy", "test_accuracy", "folds_accuracy")
TAGLINE = "Small neural networks that recognise sounds by text descriptions, including sounds they were not trained on."


def build_page(
    bundles: BundleChoice, examples: Sequence[tuple[Path, str]] = (), library: Library | None = None
) -> gr.Blocks:
    """Build the page. Each tab has its own function.

    examples   (file, name to show) pairs
    library    recordings to search for similar sounds; None: the examples
    """

    def head(bundle: str) -> str:
        return _header(bundles.open(bundle))

    def model(bundle: str) -> dict[str, object]:
        """Describe a bundle: network, data set, classes, accuracy, backend, precision, and if it accepts any label."""
        embedder = bundles.open(bundle)
        return {**_facts(embedder), "classes": embedder.zeroshot.class_names, "any_text": embedder.knows_text}

    with gr.Blocks(title="Unheard", analytics_enabled=False, delete_cache=(UPLOADS_S, UPLOADS_S)) as page:
        header = gr.HTML(_header(bundles.open(bundles.names[0])), elem_id="header", elem_classes="bare")
        bundle = gr.Dropdown(
            bundles.names,
            value=bundles.names[0],
            label="bundle",
            elem_id="bundle",
            filterable=False,
            visible=len(bundles.names) > 1,
        )
        with gr.Tabs(overflow_behavior="wrap"):
            with gr.Tab("Name that sound"):
                add_name_sound(bundles, bundle, examples)
            with gr.Tab("Live"):
                add_live(bundles, bundle)
            with gr.Tab("Find similar"):
                add_find_similar(bundles, bundle, examples, library)
            with gr.Tab("Compare"):
                add_compare_runtimes(bundles, bundle, examples)
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
        "head": f"<style>{(HERE / 'frame.css').read_text()}</style><script>{(HERE / 'page.js').read_text()}</script>",
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
