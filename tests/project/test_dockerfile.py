"""The serving image, as far as it can be tested without Docker: what it installs is enough, pinned, and no more."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.absent_packages import environment_without

ROOT = Path(__file__).parents[2]
BASE = "python:3.11-slim"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order: name, arguments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", "").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def only(name: str) -> str:
    (found,) = [arguments for instruction, arguments in instructions() if instruction == name]
    return found


@pytest.fixture(scope="module")
def wanted(tmp_path_factory) -> list[Requirement]:
    """What the image installs by default."""
    return requirements_of(only("ARG").removeprefix("EXTRAS="), tmp_path_factory.mktemp("build"))


def requirements_of(extras: str, folder: Path) -> list[Requirement]:
    """What the image's own step writes into wanted.txt."""
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    (step,) = [arguments for name, arguments in instructions() if name == "RUN" and arguments.endswith("> wanted.txt")]
    command = step.replace("python -c", f"{shlex.quote(sys.executable)} -c", 1)
    subprocess.run(command, shell=True, cwd=folder, check=True, env={"EXTRAS": extras, "PATH": "/usr/bin:/bin"})
    return [Requirement(line) for line in (folder / "wanted.txt").read_text().splitlines()]


@pytest.fixture(scope="module")
def locked() -> dict[str, str]:
    """The lock: distribution -> version."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def closure(wanted: list[Requirement]) -> Iterator[str]:
    """The distributions that pip would install: those wanted and what they ask for, as installed here."""
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [(canonicalize_name(requirement.name), frozenset(requirement.extras)) for requirement in wanted]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        yield name
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
                todo.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))


def test_every_package_of_the_image_is_in_the_lock(wanted, locked):
    names = set(closure(wanted))
    assert {"numpy", "onnxruntime-gpu", "soundfile", "fastapi", "uvicorn", "tokenizers"} <= names
    assert names - set(locked) == set()
    for requirement in wanted:
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("extras", ["formats", "serve,openvino,grpc,otel", "serve,sign,text"])
def test_no_extra_asks_an_index_for_the_project_itself(extras, wanted, locked, tmp_path):
    more = requirements_of(extras, tmp_path)
    assert {requirement.name for requirement in wanted} < {requirement.name for requirement in more}
    assert {canonicalize_name(requirement.name) for requirement in more} <= set(locked)  # which is without the project


def test_neither_torch_nor_cuda_nor_ray_comes_into_the_image(wanted):
    names = set(closure(wanted))
    assert not {"torch", "transformers", "ray", "openvino", "gradio", "scikit-learn"} & names
    assert not [name for name in names if name.startswith("nvidia-")]


def test_all_of_serving_imports_with_the_images_packages_alone(wanted):
    """No other installed package is found."""
    code = """
import importlib, pkgutil
import serving
names = [module.name for module in pkgutil.walk_packages(serving.__path__, "serving.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    names = set(closure(wanted))
    blocked = [
        module
        for module, distributions in metadata.packages_distributions().items()
        if not {canonicalize_name(name) for name in distributions} & names
    ]
    assert {"torch", "openvino", "ray", "sklearn", "pytest"} <= set(blocked)
    command, environment = [sys.executable, "-c", code], environment_without(*blocked)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_only_what_the_image_copies_is_sent_to_the_build(tmp_path):
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    copied = {
        source
        for name, arguments in instructions()
        if name == "COPY" and "--from" not in arguments
        for source in arguments.split()[:-1]
    }
    assert copied == let_through
    assert all((ROOT / source).exists() for source in copied)


def test_pip_takes_versions_from_the_lock_and_builds_nothing():
    (install,) = [arguments for name, arguments in instructions() if name == "RUN" and " -m pip " in arguments]
    for option in ("--constraint requirements.lock", "--requirement wanted.txt", "--only-binary :all:"):
        assert option in " ".join(install.split())


def test_the_files_that_are_removed_are_onnxruntimes_own():
    """A name that another release changes would stop the build: better to know it here."""
    (removal,) = [arguments for name, arguments in instructions() if name == "RUN" and arguments.startswith("rm ")]
    paths = [Path(path) for path in removal.split()[1:]]
    assert len(paths) == 2
    installed = {str(file) for file in metadata.files("onnxruntime-gpu") or []}
    for path in paths:
        assert str(path).startswith("/venv/lib/python3.11/site-packages/")
        assert str(path).removeprefix("/venv/lib/python3.11/site-packages/") in installed


def test_it_runs_as_a_user_without_rights_in_the_last_stage():
    names = [name for name, _ in instructions()]
    assert names.index("USER") > len(names) - 1 - names[::-1].index("FROM")
    uid = only("USER")
    assert int(uid) > 0
    assert any(name == "RUN" and f"--uid {uid}" in arguments for name, arguments in instructions())
    assert [arguments.split()[0] for name, arguments in instructions() if name == "FROM"] == [BASE, BASE]


def test_the_command_is_one_that_the_server_takes(tmp_path):
    entry, arguments = json.loads(only("ENTRYPOINT")), json.loads(only("CMD"))
    assert entry == ["python", "-m", "serving"]
    assert arguments[0] == only("VOLUME")
    # Without a bundle there it says so, which it does only when it has understood all flags.
    missing = [str(tmp_path / "bundle"), *arguments[1:-1], "0"]
    done = subprocess.run([sys.executable, *entry[1:], *missing], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "no such bundle folder" in done.stderr


def test_the_health_check_asks_the_port_that_is_served_and_a_route_that_there_is():
    check = only("HEALTHCHECK")
    port = json.loads(only("CMD"))[-1]
    assert only("EXPOSE") == port
    assert f"http://127.0.0.1:{port}/healthz" in check
    from serving.server.api_keys import OPEN_PATHS

    assert "/healthz" in OPEN_PATHS  # the check sends no key
    code = json.loads(check[check.index("[") :])[2]
    compile(code, "HEALTHCHECK", "exec")
    # It is what tells a dead server: nothing listens at this port, and the exit code says so.
    dead = code.replace(f":{port}/", ":1/")
    assert subprocess.run([sys.executable, "-c", dead], capture_output=True, timeout=30).returncode != 0
