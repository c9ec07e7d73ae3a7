"""Draw docs/pictures/architecture.svg from the imports that the code really has.

    python docs/draw_architecture.py

The picture shows the five packages, their rooms (the folders in them) and which package imports which. Its metadata
holds the same facts as JSON, so a test can compare a committed picture with the code.
"""

import json
import re
import sys
from pathlib import Path

import grimp
import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PICTURE = Path(__file__).parent / "pictures" / "architecture.svg"
ROOT = Path(__file__).parents[1]
# Package -> left, bottom, width, height, and what it makes of what.
FLOORS = {
    "serving": (0.0, 0.0, 10.0, 1.9, "bundle -> embeddings and labels; runs without torch"),
    "training": (0.9, 2.5, 4.1, 2.4, "recordings -> run folder"),
    "export": (0.0, 5.5, 5.0, 1.5, "run folder -> bundle, with parity"),
    "benchmarks": (5.7, 2.5, 2.1, 2.4, "speed, measured"),
    "demo": (8.2, 2.5, 1.8, 2.4, "a page; without torch"),
}
# Where an arrow between two packages starts and ends.
ARROWS = {
    ("training", "serving"): ((2.9, 2.5), (2.9, 1.9)),
    ("export", "training"): ((2.9, 5.5), (2.9, 4.9)),
    ("export", "serving"): ((0.4, 5.5), (0.4, 1.9)),
    ("demo", "serving"): ((9.1, 2.5), (9.1, 1.9)),
    ("benchmarks", "serving"): ((6.7, 2.5), (6.7, 1.9)),
    ("benchmarks", "training"): ((5.7, 4.5), (5.0, 4.5)),
}


def read_structure() -> dict[str, object]:
    """The rooms of each package, with their numbers of files, and the imports between packages."""
    rooms = {
        package: {
            folder.name: len(list(folder.rglob("*.py")))
            for folder in sorted((ROOT / package).iterdir())
            if (folder / "__init__.py").is_file()
        }
        | {"": len(list((ROOT / package).glob("*.py")))}
        for package in FLOORS
    }
    sys.path.insert(0, str(ROOT))  # run as a script, only docs/ is on it
    graph = grimp.build_graph(*FLOORS, cache_dir=None)
    imports = {
        (importer.split(".")[0], imported.split(".")[0])
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
    }
    return {"rooms": rooms, "imports": sorted([a, b] for a, b in imports if a != b)}


def read_picture(path: Path = PICTURE) -> dict[str, object]:
    """The structure that a picture shows."""
    found = re.search(r"<dc:description>(.*?)</dc:description>", path.read_text(), re.DOTALL)
    assert found, f"{path}: has no description; draw it again"
    return json.loads(found.group(1).replace("&quot;", '"').replace("&gt;", ">").replace("&amp;", "&"))


def draw(structure: dict, path: Path = PICTURE) -> None:
    """Write the picture as SVG; the same structure gives the same bytes."""
    matplotlib.rcParams["svg.hashsalt"] = "unheard"
    figure, axes = pyplot.subplots(figsize=(11, 6.6))
    for package, (left, bottom, width, height, purpose) in FLOORS.items():
        axes.add_patch(
            FancyBboxPatch((left, bottom), width, height, boxstyle="round,pad=0.02", fc="#eef3f8", ec="#35506b")
        )
        axes.text(left + 0.15, bottom + height - 0.32, package, fontsize=13, weight="bold", color="#1d3040")
        axes.text(left + 0.15, bottom + height - 0.62, purpose, fontsize=8.5, color="#35506b")
        named = {name: count for name, count in structure["rooms"][package].items() if name}
        rooms = [*named, f"{structure['rooms'][package]['']} files"]
        columns = max(1, int(width // 1.45))
        for place, room in enumerate(rooms):
            x = left + 0.15 + (place % columns) * 1.45
            y = bottom + height - 1.0 - (place // columns) * 0.3
            assert y > bottom, f"{package}: {room} does not fit into its box; make it higher in FLOORS"
            label = f"{room}/ ({named[room]})" if room in named else room
            axes.text(x, y, label, fontsize=8, color="#1d3040")
    for pair in structure["imports"]:
        start, end = ARROWS[tuple(pair)]
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=16, color="#b0562a", lw=1.6))
    axes.text(5.7, 6.1, "An arrow points from the package that imports\nto the package that it imports.", fontsize=8.5)
    axes.set_xlim(-0.2, 10.3)
    axes.set_ylim(-0.2, 7.2)
    axes.axis("off")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Description": json.dumps(structure, sort_keys=True)})
    pyplot.close(figure)


if __name__ == "__main__":
    draw(read_structure())
    print(json.dumps({"out": str(PICTURE)}))
