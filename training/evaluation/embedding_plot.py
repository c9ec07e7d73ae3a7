"""Embeddings in the plane: each clip is a point, each class has its name beside its points."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import normalize

from training.evaluation.plots import DPI, INK, MANY_CLASSES

# Ten colours that remain distinct with every kind of colour blindness (Petroff 2021, arXiv:2107.02270).
# More classes share colours and are told apart by their names.
CLASS_COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
MOST_POINTS = 3000  # more hide each other, and t-SNE takes minutes to place them
LETTERS = 8.5  # font size of the names, points
MARGIN = 0.06  # around the points, as a share of the panel
POINT = np.array([6.0, 6.0])  # size of a marker, points


def draw_embedding_map(
    embeddings: NDArray[np.float32], labels: NDArray[np.integer], names: Sequence[str], seen: NDArray[np.bool_]
) -> Figure:
    """Project embeddings to the plane by t-SNE and by PCA, after normalising them, so that distances follow cosines.

    embeddings  [n, size], n >= 3;  labels [n], indices into names;  names, seen [C]
    Of more than MOST_POINTS clips as many are drawn, evenly spaced in the classes' order, and at least one of a class.
    Seen classes are circles, unseen ones triangles with a dark edge and a name in bold. t-SNE preserves neighbours but
    not distances between groups (van der Maaten 2008, JMLR 9); PCA keeps the two directions of largest variance.
    """
    if len(embeddings) < 3:
        raise ValueError(f"embeddings: got {len(embeddings)}; a map needs 3 or more")
    drawn = _drawn(labels)
    of_all = f"; {len(drawn):,} of {len(labels):,} clips" if len(drawn) < len(labels) else ""
    unit, labels = np.asarray(normalize(embeddings[drawn])), labels[drawn]
    shape, size = ((2, 1), (9, 14)) if len(names) > MANY_CLASSES else ((1, 2), (11, 5.6))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    panel_size = 72 * 0.95 * np.array([size[0] / shape[1], size[1] / shape[0]])  # points, approximately
    panels = figure.subplots(*shape)
    for panel, project in zip(panels, (_t_sne, _pca), strict=True):
        points, title = project(unit)
        _scatter(panel, points, panel_size, labels, names, seen)
        panel.set_title(title + of_all, fontsize=11)
    if not seen.all():
        handles, legend = panels[0].get_legend_handles_labels()
        figure.legend(handles, legend, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _drawn(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """The clips that are drawn, ascending."""
    if len(labels) <= MOST_POINTS:
        return np.arange(len(labels))
    by_class = np.argsort(labels, kind="stable")
    spaced = by_class[np.linspace(0, len(labels) - 1, MOST_POINTS).round().astype(np.int64)]
    return np.union1d(spaced, np.unique(labels, return_index=True)[1])


def _t_sne(unit: NDArray[np.floating]) -> tuple[NDArray[np.floating], str]:
    """Points [n, 2] and a title."""
    perplexity = min(30.0, (len(unit) - 1) / 3)
    title = f"t-SNE, perplexity {perplexity:.3g}"
    if _coincide(unit):
        return np.zeros((len(unit), 2)), title
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(unit), title


def _pca(unit: NDArray[np.floating]) -> tuple[NDArray[np.floating], str]:
    """Points [n, 2] and a title."""
    if _coincide(unit):
        return np.zeros((len(unit), 2)), "PCA, no variance"
    pca = PCA(2)
    points = pca.fit_transform(unit)
    return points, f"PCA, {pca.explained_variance_ratio_.sum():.0%} of the variance"


def _coincide(unit: NDArray[np.floating]) -> bool:
    """Whether all embeddings are equal: t-SNE does not terminate on them."""
    return float(np.ptp(unit, axis=0).max()) < 1e-6


def _scatter(
    panel: Axes,
    points: NDArray[np.floating],
    panel_size: NDArray[np.floating],
    labels: NDArray[np.integer],
    names: Sequence[str],
    seen: NDArray[np.bool_],
) -> None:
    """Draw points [n, 2] and names on a panel of panel_size [2] (in points of 1/72 inch)."""
    low, high = points.min(axis=0), points.max(axis=0)
    places = MARGIN + (1 - 2 * MARGIN) * (points - low) / np.maximum(high - low, 1e-12)  # [n, 2] of the panel
    panel.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
    panel.spines[:].set_color("#d8dce2")
    present = np.unique(labels)
    for kind, marker, edge, what in ((True, "o", "white", "seen class"), (False, "^", INK, "unseen class")):
        rows = seen[labels] == kind
        if rows.any():
            colours = [CLASS_COLOURS[label % len(CLASS_COLOURS)] for label in labels[rows]]
            panel.scatter(*places[rows].T, s=28, c=colours, marker=marker, edgecolors=edge, linewidths=0.7, label=what)
    anchors = np.array([_medoid(places[labels == label]) for label in present])
    shown = [str(names[label]).replace("_", " ") for label in present]
    widths = np.array([0.62 * LETTERS * len(name) for name in shown])
    centres = _place_names(anchors * panel_size, widths, places * panel_size, panel_size) / panel_size
    for label, name, anchor, centre in zip(present, shown, anchors, centres, strict=True):
        colour = CLASS_COLOURS[label % len(CLASS_COLOURS)]
        panel.annotate(
            name, anchor, centre, ha="center", va="center", fontsize=LETTERS, color=INK, parse_math=False,
            fontweight="normal" if seen[label] else "bold",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0},
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip


def _medoid(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """The point of [n, 2] with the smallest sum of distances to the others; unlike the mean, it is one of them."""
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    return points[distances.sum(axis=1).argmin()]


def _place_names(
    anchors: NDArray[np.floating],
    widths: NDArray[np.floating],
    points: NDArray[np.floating],
    panel_size: NDArray[np.floating],
) -> NDArray[np.floating]:
    """Centres [C, 2] of the names: each near its anchor, covering few points and no other name.

    anchors [C, 2], widths [C], points [n, 2], panel_size [2]: in points of 1/72 inch
    Names are placed one after the other, each at the cheapest of several places around its anchor.
    """
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # [16, 2]
    centres = np.empty_like(anchors)
    halves = np.stack([widths, np.full_like(widths, 1.3 * LETTERS)], axis=1) / 2  # [C, 2]
    for i, (anchor, half) in enumerate(zip(anchors, halves, strict=True)):
        rings = [anchor + (half + step) * around for step in range(4, 124, 12)]
        options = np.clip(np.concatenate(rings), half, panel_size - half)  # [n_options, 2]
        away = np.linalg.norm(options - anchor, axis=1)
        covered = (np.abs(options[:, None] - points) < half + POINT / 2).all(axis=2).sum(axis=1)
        names = (np.abs(options[:, None] - centres[:i]) < half + halves[:i]).all(axis=2).sum(axis=1)
        centres[i] = options[(away + 15 * covered + 1000 * names).argmin()]
    return centres
