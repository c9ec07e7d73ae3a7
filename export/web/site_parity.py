"""Compare the page of a site, in a browser, with the trained model: the probes and recordings, row by row.

Two comparisons, each judged by its worst row: of the page's model on the windows that Python cut; and of the whole way
of a sound file, which the browser decodes and the page resamples and cuts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.parity.bundle_judge import find_recordings, judge_stored
from export.parity.comparison import BOUNDS, Bound
from export.parity.judge import Judge, ParityError, ParityResult
from export.parity.parity_report import parity_record, parity_table
from export.parity.samples import spread
from export.web.browser import SitePage, open_site
from serving.bundle.bundle import Bundle
from serving.command_line import console
from serving.progress import track

# Where the browser decodes and the page resamples. Measured with the shipped bundle in FP32 on ESC-10: 0.99999 and 1e-3
# in WAV at seven rates, FLAC, OGG and Opus; 0.997 and 2.2e-2 in MP3, whose decoders differ at the ends of a file. The
# browser's own resampler gives 0.75 and 2.2e-1 (docs/results/web.md).
FILE_BOUND = Bound(cosine=0.995, difference=5e-2, ranking=0.99)
BATCHES = (1, 8)  # the page runs up to 8 windows at once
RUNTIME = "onnxruntime-web"


def prove_site(folder: Path, bundle: Bundle, precision: str, recordings: Path | None, clips: int) -> dict[str, Any]:
    """Compare, print the table and return the content of parity.json.

    recordings  folder of sound files; None: only the probes are compared
    clips       most recordings, spread evenly over all
    errors      NoBrowserError: nothing can be compared here; ParityError: a limit is not met
    """
    paths = spread(find_recordings(recordings), clips)
    judge = judge_stored(bundle, paths)
    with open_site(folder, bundle.manifest.embedding_size) as page:
        backend = f"{RUNTIME} {page.facts['backend']}"
        results = [judge.judge(page.embed_windows, backend, precision, batch) for batch in BATCHES]
        if paths:
            results.append(_judge_files(judge, page, paths, backend, precision))
        record = parity_record(judge, results)
    console.print(parity_table(judge, results))
    faults = [f"{result.title}: {'; '.join(result.faults)}" for result in results if result.faults]
    if faults:
        raise ParityError(f"the page in {page.browser}: {faults[0]}; nothing was written")
    return {"browser": page.browser, "engine": page.facts, "precision": precision, **record}


def _judge_files(judge: Judge, page: SitePage, paths: Sequence[Path], backend: str, precision: str) -> ParityResult:
    """Judge the way from a sound file to its embedding."""
    n_probes = judge.samples.n_probes
    parts = [judge.reference.embeddings[:n_probes]]  # the other comparisons judge the probes, which are no files
    for path, recording in zip(track(paths, "files in the browser"), judge.samples.recordings, strict=True):
        rows, count = page.embed_file(path), recording.count
        if len(rows) != count:
            raise ParityError(f"{path.name}: the page cuts {len(rows)} windows, wanted {count}; nothing was written")
        parts.append(rows[recording.taken])
    return judge.judge_rows(np.concatenate(parts), f"{backend}, files", precision, 1, file_bound(precision))


def file_bound(precision: str) -> Bound:
    """The limits where the browser decodes and the page resamples. The reference is decoded and resampled by Python."""
    bound = BOUNDS[precision]
    return Bound(min(bound.cosine, FILE_BOUND.cosine), max(bound.difference, FILE_BOUND.difference), bound.ranking)
