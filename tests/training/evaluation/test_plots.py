"""Figures: what is in them, that they are written, and that TensorBoard takes them."""

import re
from itertools import pairwise

import matplotlib.image
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from serving.errors import RunError
from training.evaluation.embedding_plot import draw_embedding_map
from training.evaluation.plots import draw_confusion, draw_curves, draw_tradeoff, draw_zero_shot, save_figure
from training.evaluation.scoring import Gzsl
from training.fit.recipe import Epoch

CURVE = [Gzsl(0.0, 0.9, 0.0), Gzsl(0.1, 0.8, 0.4), Gzsl(0.2, 0.6, 0.6), Gzsl(0.3, 0.0, 0.7)]


def epoch(number: int, validated: bool = True) -> Epoch:
    return Epoch(number, 2.0 / number, 0.5, 2.5 / number if validated else None, 0.4 if validated else None, 1e-3, 1, 9)


def clusters(n_classes: int, clips: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(n_classes), clips)
    centres = rng.standard_normal((n_classes, 16))
    return (centres[labels] + 0.1 * rng.standard_normal((len(labels), 16))).astype(np.float32), labels


def every_figure() -> dict[str, Figure]:
    embeddings, labels = clusters(4)
    seen = np.array([True, True, True, False])
    return {
        "curves": draw_curves([epoch(1), epoch(2)], 2),
        "confusion": draw_confusion(np.array([[3, 1], [0, 4]]), ["dog", "rain"]),
        "map": draw_embedding_map(embeddings, labels, ["dog", "rain", "cow", "sea_waves"], seen),
        "zero-shot": draw_zero_shot({"network": (0.7, 0.02), "no network": (0.6, 0.02)}, 1 / 3, ["no network"]),
        "tradeoff": draw_tradeoff(CURVE, CURVE[1]),
    }


def texts(figure: Figure) -> list[str]:
    """All words that a reader sees on the panels."""
    figure.draw_without_rendering()
    return [
        text.get_text()
        for panel in figure.axes
        for text in (*panel.texts, panel.title, *panel.get_xticklabels(), *panel.get_yticklabels())
    ]


def test_every_figure_is_saved_and_shown_by_tensorboard(tmp_path):
    with SummaryWriter(str(tmp_path / "events")) as writer:
        for name, figure in every_figure().items():
            save_figure(figure, tmp_path / f"{name}.png")
            picture = matplotlib.image.imread(tmp_path / f"{name}.png")
            assert picture[..., :3].std() > 0.01
            writer.add_figure(name, figure, 3)
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert set(events.Tags()["images"]) == set(every_figure())
    assert events.Images("map")[0].step == 3


def test_a_figure_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(RunError, match=r"missing/map\.png: cannot be written"):
        save_figure(draw_curves([epoch(1)], 1), tmp_path / "missing" / "map.png")


def test_dollars_in_class_names_are_no_formulas(tmp_path):
    embeddings, labels = clusters(4)
    names = ["$x%$", "$^$", "$aa$", "aa"]
    figures = draw_confusion(np.eye(4, dtype=int), names), draw_embedding_map(embeddings, labels, names, labels[:4] < 9)
    for figure in figures:
        save_figure(figure, tmp_path / "figure.png")
        assert set(texts(figure)) >= set(names)
    drawn = [label.get_window_extent().width for label in figures[0].axes[0].get_yticklabels()]
    assert drawn[2] > 1.3 * drawn[3]  # the dollars are drawn


def test_curves_without_validation_show_training_alone():
    panels = draw_curves([epoch(1, False), epoch(2, False)], 2).axes
    assert [line.get_label() for line in panels[0].lines] == ["train, augmented", "best epoch, 2"]
    assert [line.get_label() for line in draw_curves([epoch(1)], 1).axes[0].lines][1] == "validation"


def test_confusion_has_true_classes_in_rows_and_shares_of_them_as_colours():
    counts = np.array([[3, 1, 0], [0, 40, 0], [0, 0, 0]])
    figure = draw_confusion(counts, ["dog", "sea_waves", "rain"])
    panel = figure.axes[0]
    cells = {text.get_position(): text.get_text() for text in panel.texts}
    assert cells == {(0, 0): "3", (1, 0): "1", (1, 1): "40"}  # x is the column; zeros stay blank
    np.testing.assert_allclose(np.asarray(panel.images[0].get_array()), [[0.75, 0.25, 0], [0, 1, 0], [0, 0, 0]])
    assert [label.get_text() for label in panel.get_yticklabels()] == ["dog", "sea waves", "rain"]
    assert "43 of 44 clips correct, 97.7%" in texts(figure)


@pytest.mark.parametrize("n_classes", [10, 50])
def test_names_of_a_confusion_matrix_do_not_run_into_one_another(n_classes):
    figure = draw_confusion(np.eye(n_classes, dtype=int), [f"door wood knock {i}" for i in range(n_classes)])
    figure.draw_without_rendering()
    rows = figure.axes[0].get_yticklabels()
    assert len(rows) == n_classes
    boxes = [label.get_window_extent() for label in rows]
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0
    assert rows[0].get_fontsize() >= 7


@pytest.mark.parametrize("n_classes", [10, 50])
def test_every_class_of_a_map_is_named_and_no_name_hides_another(n_classes):
    embeddings, labels = clusters(n_classes)
    names = [f"door_knock_{i}" for i in range(n_classes)]
    seen = np.arange(n_classes) % 3 > 0
    figure = draw_embedding_map(embeddings, labels, names, seen)
    figure.draw_without_rendering()
    for panel in figure.axes:
        assert sorted(text.get_text() for text in panel.texts) == sorted(name.replace("_", " ") for name in names)
        bold = {text.get_text() for text in panel.texts if text.get_fontweight() == "bold"}
        assert bold == {name.replace("_", " ") for name, known in zip(names, seen, strict=True) if not known}
        boxes = [Text.get_window_extent(text) for text in panel.texts]  # without the line to the points
        hidden = [i for i, one in enumerate(boxes) for other in boxes[:i] if one.overlaps(other)]
        assert not hidden
        shapes = [len(part.get_offsets()) for part in panel.collections if isinstance(part, PathCollection)]
        assert shapes == [6 * seen.sum(), 6 * (~seen).sum()]


def test_a_map_keeps_clusters_apart_and_ignores_length():
    embeddings, labels = clusters(3, 10)
    lengths = np.random.default_rng(1).uniform(0.1, 10, (30, 1)).astype(np.float32)
    figure = draw_embedding_map(embeddings * lengths, labels, ["a", "b", "c"], np.ones(3, bool))
    for panel in figure.axes:
        points = np.asarray(panel.collections[0].get_offsets())
        distances = np.linalg.norm(points[:, None] - points, axis=2)
        np.fill_diagonal(distances, np.inf)
        assert (labels[distances.argmin(axis=1)] == labels).all()
    assert not figure.legends  # nothing unseen to tell apart


def test_embeddings_that_are_all_the_same_still_give_a_map():
    embeddings = np.ones((12, 16), np.float32)
    assert draw_embedding_map(embeddings, np.arange(12) % 3, ["a", "b", "c"], np.ones(3, bool)).axes


def test_zero_shot_bars_give_numbers_chance_and_controls():
    figure = every_figure()["zero-shot"]
    shown = texts(figure)
    assert "70.0 ± 2.0 %" in shown
    assert "chance, 33%" in shown
    assert "no network (control)" in shown
    assert "network" in shown
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.7, 0.6]
    assert bars[0].get_facecolor() != bars[1].get_facecolor()
    assert figure.axes[0].yaxis_inverted()  # the first on top


def test_tradeoff_marks_the_best_harmonic_mean_and_the_area():
    figure = draw_tradeoff(CURVE, CURVE[1])
    told = [text.get_text() for text in figure.legends[0].texts]
    assert told[1] == "best harmonic mean 60.0%"
    assert told[2] == "at the calibrated offset 53.3%"
    area = float(re.findall(r"[\d.]+$", told[0])[0])
    assert area == pytest.approx(0.4 * 0.85 + 0.2 * 0.7 + 0.1 * 0.3, abs=1e-3)
    assert len(draw_tradeoff(CURVE).legends[0].texts) == 2


def test_of_many_clips_some_of_every_class_are_drawn_and_the_titles_say_so(monkeypatch):
    monkeypatch.setattr("training.evaluation.embedding_plot.MOST_POINTS", 40)
    embeddings, labels = clusters(3, 60)
    embeddings, labels = np.append(embeddings, embeddings[:1] + 1, axis=0), np.append(labels, 3)  # a class of one clip
    figure = draw_embedding_map(embeddings, labels, ["a", "b", "c", "rare"], np.ones(4, bool))
    for panel in figure.axes:
        (points,) = (each for each in panel.collections if isinstance(each, PathCollection))
        assert 40 <= len(points.get_offsets()) <= 44
        assert f"{len(points.get_offsets())} of 181 clips" in panel.get_title()
    assert {"a", "b", "c", "rare"} <= set(texts(figure))
