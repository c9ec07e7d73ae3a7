"""Pictures of a run, as PNG files."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from training.loop import Epoch

mpl.rcParams["svg.fonttype"] = "none"


def plot_curves(history: list[Epoch], best: int, out: Path) -> None:
    """Loss and accuracy by epoch, for training and validation; the best epoch is marked."""
    epochs = [done.epoch for done in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, name in zip(panels, ("loss", "accuracy"), strict=True):
        for part, colour in (("train", "#8a8f98"), ("validation", "#1f6feb")):
            values = [getattr(done, f"{part}_{name}") for done in history]
            label = "train, augmented" if part == "train" else part
            panel.plot(epochs, values, color=colour, label=label, marker="o" if len(history) == 1 else None)
        panel.axvline(best, color="#d4572a", linestyle=":", label=f"best epoch, {best}")
        panel.set(xlabel="epoch", title="cross-entropy" if name == "loss" else name)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylim(0, 1.02)
    panels[1].legend(frameon=False, loc="lower right")
    figure.savefig(out, dpi=130)
