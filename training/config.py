"""What a run was made from: config.json, the part of a run folder that lets others build the network again."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from serving.errors import RunError
from serving.frontend import LogMelConfig
from training.checkpoint import WEIGHTS, load_tensors, write_text
from training.data.clips import ClipTable
from training.data.splits import ClassSplit, ClipSplit, split_clips
from training.loop import Recipe
from training.networks import NETWORKS, WINDOW_FRAMES, Network, NetworkConfig, build_network

CONFIG = "config.json"


@dataclass(frozen=True)
class RunConfig:
    """What a run was made from. Stored whole as config.json; export reads it back.

    objective          "text" (targets made of class descriptions) or "classes" (cross-entropy over class numbers)
    vocabulary         how many synthesised sounds are learned beside the recordings; 0 is none
    vocabulary_epochs  passes over them alone, before the recordings
    validation_share   of the clips that may be trained on, kept to choose the epoch; 0 keeps none
    text               the encoder of the class texts, see training.text
    map                "ridge" or "eszsl", see training.zeroshot; None with the objective "text", which learns its own
    skipped            clips that cannot be read and were left out, relative to data_dir
    init               name and hash of the published weights that it started from, None for random ones
    """

    dataset: str
    data_dir: str
    split: ClassSplit
    test_fold: int | None
    seed: int
    objective: str
    vocabulary: int
    vocabulary_epochs: int
    validation_share: float
    network: NetworkConfig
    front_end: LogMelConfig
    window_frames: int
    recipe: Recipe
    text: str
    map: str | None
    init: str | None
    classes: list[str]
    license: str
    skipped: list[str] = field(default_factory=list)

    def clips(self, table: ClipTable) -> ClipSplit:
        """The run's own clips to train, validate and test on."""
        return split_clips(self.without_skipped(table), self.split, self.test_fold, self.seed, self.validation_share)

    def without_skipped(self, table: ClipTable) -> ClipTable:
        """The table without the clips that the run left out."""
        left_out = tuple(f"/{name}" for name in self.skipped)
        clips = tuple(clip for clip in table.clips if not left_out or not clip.path.as_posix().endswith(left_out))
        return replace(table, clips=clips)

    def save(self, run: Path) -> None:
        """Write config.json."""
        write_text(run / CONFIG, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, run: Path) -> "RunConfig":
        """Read a run folder's config.json; RunError where it is missing or not one."""
        path = run / CONFIG
        if not path.is_file():
            raise RunError(f"{path}: is missing, so {run} is no run folder; make one with: python -m training.run")
        try:
            raw = json.loads(path.read_text())
            raw.setdefault("map", None if raw["objective"] == "text" else "ridge")  # before there was another
            nested = {"network": NetworkConfig, "front_end": LogMelConfig, "recipe": Recipe}
            for name, kind in nested.items():
                raw[name] = kind(**raw[name])
            if raw["network"].name not in NETWORKS or raw["window_frames"] != WINDOW_FRAMES[raw["network"].name]:
                raise ValueError(f"network {raw['network'].name} with windows of {raw['window_frames']} frames")
            names = ("seen", "unseen_validation", "unseen_test")
            split = ClassSplit(raw["split"]["name"], *(tuple(raw["split"][name]) for name in names))
            return cls(**raw | {"split": split})
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RunError(f"{path}: not a run's configuration ({error}); train again") from error


def load_network(run: Path, config: RunConfig) -> Network:
    """The run's network with its best weights, in eval mode; RunError where they are missing or do not fit."""
    tensors, _ = load_tensors(run / WEIGHTS)
    network = build_network(config.network)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise RunError(f"{run / WEIGHTS}: are not {config.network.name}'s weights ({reason}); train again") from error
    return network.eval()
