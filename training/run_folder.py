"""Names of the files in a run folder: here alone, for all programs that write or read one."""

CONFIG = "config.json"  # what the run was made from
WEIGHTS = "weights.safetensors"  # of the best epoch: what is exported
LAST = "last.safetensors"  # of the last epoch, with the optimiser: what --resume continues
METRICS = "metrics.jsonl"  # one line per epoch
ZEROSHOT = "zeroshot.npz"  # the map from embeddings to class vectors
SUMMARY = "summary.json"  # written last: the run has ended
CURVES = "curves.png"
TENSORBOARD = "tensorboard"  # folder of events

EVALUATION = "evaluation"  # folder of training.evaluate, with:
REPORT = "report.json"
REPORT_PAGE = "report.md"
CONFUSION = "confusion.png"
EMBEDDING_MAP = "map.png"
TRADEOFF = "tradeoff.png"
ZERO_SHOT_BARS = "zero-shot.png"
