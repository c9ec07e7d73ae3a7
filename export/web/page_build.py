"""Build the page of web/ with the machine's Node.js, once for each state of its sources."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

from export.web.packing import SUFFIX, pack
from serving.command_line import say
from serving.errors import UsageError

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
STYLE = ROOT / "demo" / "style.css"  # the page uses the demo's style sheet
SOURCES = (
    "package-lock.json",
    "package.json",
    "tsconfig.json",
    "vite.config.ts",
    "index.html",
    "src/**/*",
    "licences/*",
)
STAMP = "built-from"  # in dist/ and node_modules/: a hash of what they were made of
LEAST_NODE = (20, 19)  # Vite 8's requirement
WAY_OUT = "install Node.js 20.19 or later with npm, or copy web/dist from a machine where it was built"


def build_page() -> Path:
    """The folder of the built page. Node.js is needed only if web/dist is missing or was built from other sources.

    errors   UsageError: web/ is not there, Node.js is missing or too old, or npm fails
    """
    if not (WEB / "package-lock.json").is_file():
        raise UsageError(f"{WEB}: has no package-lock.json; run this command in a checkout of the project")
    dist, sources = WEB / "dist", _hash_of(_sources())
    with FileLock(WEB / ".build.lock"):  # several exports at a time share the build
        if is_built():
            return dist
        install_packages()
        run_npm("building the page", "run", "build")
        for path in sorted((dist / "runtime").glob("*.wasm")):
            say(f"packing {path.name}")
            path.with_name(path.name + SUFFIX).write_bytes(pack(path.read_bytes()) or path.read_bytes())
            path.unlink()
        (dist / STAMP).write_text(sources)
    return dist


def is_built() -> bool:
    """Whether web/dist was built from the sources as they are."""
    return _stamp(WEB / "dist") == _hash_of(_sources())


def install_packages() -> None:
    """Install the packages of web/package-lock.json into web/node_modules, unless they are there."""
    modules, wanted = WEB / "node_modules", _hash_of([WEB / "package-lock.json"])
    if _stamp(modules) == wanted:
        return
    run_npm("installing the page's packages", "ci")
    (modules / STAMP).write_text(wanted)


def run_npm(purpose: str, *arguments: str) -> None:
    """Run npm in web/. UsageError: Node.js is missing or too old, or npm fails."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise UsageError(f"the page is not built, and Node.js with npm is not installed; {WAY_OUT}")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    found = re.match(r"v(\d+)\.(\d+)", version)
    if not found or (int(found[1]), int(found[2])) < LEAST_NODE:
        raise UsageError(f"the page is not built, and Node.js is {version or 'not usable'}; {WAY_OUT}")
    say(f"{purpose} (npm {' '.join(arguments)})")
    done = subprocess.run([npm, *arguments], capture_output=True, text=True, cwd=WEB, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        told = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "no message")
        raise UsageError(f"npm {' '.join(arguments)} failed in {WEB}: {told.strip()[:300]}; {WAY_OUT}")


def _sources() -> list[Path]:
    found = {path for pattern in SOURCES for path in WEB.glob(pattern) if path.is_file()}
    return [*sorted(found), STYLE]


def _hash_of(paths: list[Path]) -> str:
    names = [Path(os.path.relpath(path, WEB)).as_posix() for path in paths]
    contents = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in zip(names, paths, strict=True)}
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _stamp(folder: Path) -> str:
    path = folder / STAMP
    return path.read_text() if path.is_file() else ""
