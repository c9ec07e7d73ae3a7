"""Write a bundle as a static web site: the model runs in the visitor's browser, and no sound leaves it.

python -m export.web bundles/first --out site/
python -m http.server --directory site/          # any web server can serve it
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from export.web.page_build import ROOT, build_page
from export.web.site_files import SITE, first_bytes, write_service_worker, write_site_files
from export.web.site_parity import prove_site
from serving.bundle.bundle import Bundle, open_bundle
from serving.bundle.bundle_files import PARITY
from serving.command_line import run_command, say
from serving.errors import UsageError
from serving.files.new_folder import new_folder, refuse_existing
from serving.headless_chromium import NoBrowserError
from serving.trust_option import Trusted

EXAMPLES = ROOT / "demo" / "example_sounds"


@dataclass(frozen=True)
class Options:
    """Write a static web site that names sounds in the browser, and compare its embeddings with the trained model's."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """bundle folder that export.onnx wrote"""
    out: Path
    """folder of the site"""
    precision: str | None = None
    """fp32, fp16 or int8; default: the bundle's smallest model"""
    text_model: bool = False
    """also copy the text model, so that visitors can type any label: 20 to 45 MB more to load"""
    examples: Path = EXAMPLES
    """folder with up to 12 recordings that the page offers, and the labels for them in labels.json"""
    data_dir: Path | None = None
    """folder of recordings that are compared in the browser; default: the examples"""
    clips: int = 80
    """maximum number of these recordings, spread evenly over all"""
    overwrite: bool = False
    """replace an existing site"""
    trust: Trusted = ()


def write_site(options: Options) -> dict[str, Any]:
    """Build the page, write the site, compare it in a browser, and return the JSON result."""
    if options.clips < 0:
        raise UsageError(f"--clips: got {options.clips}; wanted 0 or more")
    refuse_existing(options.out, options.overwrite, SITE)
    bundle = open_bundle(options.bundle, options.trust)
    precision = options.precision or smallest_precision(bundle)
    bundle.model(precision)
    page = build_page()
    not_compared = None
    with new_folder(options.out, options.overwrite, SITE) as folder:
        write_site_files(folder, page, bundle, precision, options.text_model, options.examples)
        try:
            record = prove_site(folder, bundle, precision, options.data_dir or options.examples, options.clips)
            (folder / PARITY).write_text(json.dumps(record, indent=1) + "\n")
            write_service_worker(folder, page)
        except NoBrowserError as error:
            not_compared = str(error)
            say(f"not compared with the trained model, so the site has no {PARITY}: {error}")
        first = first_bytes(folder)
        total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    say(f"wrote {options.out}; serve it with: python -m http.server --directory {options.out}")
    return {
        "out": str(options.out),
        "precision": precision,
        "text_model": options.text_model,
        "bytes": total,
        "bytes_before_the_first_name": first,
        "compared": not_compared is None,
        "not_compared": not_compared,
    }


def smallest_precision(bundle: Bundle) -> str:
    """The precision of the bundle's smallest model file."""
    models = bundle.manifest.models
    return min(models, key=lambda precision: bundle.manifest.files[models[precision]].size)


main = partial(run_command, Options, write_site, "python -m export.web")

if __name__ == "__main__":
    raise SystemExit(main())
