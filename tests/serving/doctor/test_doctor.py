"""The doctor tells what works, what does not, and what to do; exit code 1 where something is broken."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from serving.bundle.bundle import open_bundle
from serving.bundle.manifest import write_manifest
from serving.doctor.__main__ import main
from serving.doctor.machine import examine_cpu
from serving.extras import pip_install

ROOT = Path(__file__).parents[3]


def findings(out: str) -> dict[str, dict[str, str]]:
    """The findings of the last line of stdout, by what they are about."""
    report = json.loads(out.strip().splitlines()[-1])
    return {finding["what"]: finding for finding in report["findings"]}


def run_doctor(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with a folder ahead of the installed packages."""
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    command = [sys.executable, "-m", "serving.doctor", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)


def fake_distribution(folder: Path, name: str, version: str) -> None:
    """What pip leaves of an installed package."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_a_sound_machine_has_nothing_broken(bundle_folder, capsys):
    assert main([str(bundle_folder)]) == 0
    out = capsys.readouterr().out
    report = findings(out)
    assert json.loads(out.strip().splitlines()[-1])["broken"] == []
    assert report["onnxruntime, cpu"]["found"] == "works"
    for backend in ("onnxruntime", "openvino"):
        assert "ms a window" in report[f"{backend}, fp32"]["found"]
    assert report["auto, fp32"]["found"].startswith("takes ")
    assert report["bundle"]["found"] == "yamnet-compact in fp32; its files are whole"


def test_a_bundle_folder_that_is_not_there_is_wrong_usage(tmp_path, capsys):
    assert main([str(tmp_path / "nope")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "no such bundle folder" in line


def test_the_text_model_is_held_against_the_class_vectors(named_bundle, tmp_path, capsys):
    copy = Path(shutil.copytree(named_bundle, tmp_path / "bundle"))
    assert main([str(copy)]) == 0
    found = findings(capsys.readouterr().out)["text model"]
    assert (found["state"], found["found"]) == (
        "ok",
        "glove+minilm from installed packages works: labels may be any text",
    )
    (copy / "text" / "descriptions.json").write_text(json.dumps({"tone": "a dog that barks"}))
    write_manifest(copy, replace(open_bundle(named_bundle).manifest, files={}))
    assert main([str(copy)]) == 1
    assert "other vectors than training's" in findings(capsys.readouterr().out)["text model"]["found"]


def test_a_bundle_without_a_text_model_is_told_and_sound(bundle_folder, capsys):
    main([str(bundle_folder)])
    found = findings(capsys.readouterr().out)["text model"]
    assert (found["state"], found["advice"]) == (
        "absent",
        f"if wanted: {pip_install('text')}, or export it again with its text model",
    )


def test_what_is_only_listed_is_told_from_what_works(capsys):
    """onnxruntime-gpu lists CUDA on every machine."""
    import onnxruntime

    from serving.backends.onnxruntime import missing_for

    main([])
    report = findings(capsys.readouterr().out)
    assert "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if missing_for("cuda") is None:
        pytest.skip("there is a GPU driver")
    assert report["onnxruntime, cuda"]["state"] == "absent"
    assert "driver" in report["onnxruntime, cuda"]["advice"]


def test_onnxruntime_beside_onnxruntime_gpu_is_broken_and_says_what_to_uninstall(tmp_path):
    fake_distribution(tmp_path, "onnxruntime", "1.20.0")
    done = run_doctor(path=tmp_path)
    assert done.returncode == 1, done.stderr
    finding = findings(done.stdout)["onnxruntime beside onnxruntime-gpu"]
    assert finding["state"] == "broken"
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in finding["advice"]


def test_a_package_that_cannot_be_imported_is_broken_and_the_bundle_is_not_tried(tmp_path, bundle_folder):
    (tmp_path / "soxr.py").write_text("raise ImportError('libsoxr.so: cannot open')")
    done = run_doctor(str(bundle_folder), path=tmp_path)
    assert done.returncode == 1, done.stderr
    report = findings(done.stdout)
    assert "libsoxr.so: cannot open" in report["soxr"]["found"]
    assert report["bundle"]["found"] == "not tried"
    assert "Traceback" not in done.stderr


def test_a_changed_bundle_is_broken_and_the_file_named(bundle_folder, tmp_path, capsys):
    copy = Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))
    (copy / "embedder.onnx").write_bytes(b"other")
    assert main([str(copy)]) == 1
    assert "embedder.onnx" in findings(capsys.readouterr().out)["bundle"]["advice"]


def test_a_path_in_the_advice_is_printed_in_one_piece_on_a_narrow_terminal(bundle_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    copy = Path(shutil.copytree(bundle_folder, tmp_path / ("long-name-" * 8)))
    (copy / "embedder.onnx").write_bytes(b"other")
    done = run_doctor(str(copy))
    assert done.returncode == 1, done.stderr
    assert str(copy / "embedder.onnx") in done.stdout.rsplit("\n{", 1)[0]


def test_a_backend_that_gives_other_numbers_is_broken(bundle_folder, monkeypatch, capsys):
    from serving.backends import openvino

    real = openvino.OpenVino.__call__
    monkeypatch.setattr(openvino.OpenVino, "__call__", lambda self, batch: 1.1 * real(self, batch))
    assert main([str(bundle_folder)]) == 1
    report = findings(capsys.readouterr().out)
    assert "other numbers" in report["openvino, fp32"]["advice"]
    assert report["auto, fp32"]["found"] == "takes onnxruntime"


def test_a_bundle_that_bfloat16_blurs_is_not_broken(bundle_folder, monkeypatch, capsys):
    from serving.backends import openvino

    real = openvino.OpenVino.__call__
    blur = {"CPU, bf16": 1.3}
    monkeypatch.setattr(
        openvino.OpenVino, "__call__", lambda self, batch: blur.get(self.providers[0], 1.0) * real(self, batch)
    )
    assert main([str(bundle_folder)]) == 0
    assert findings(capsys.readouterr().out)["openvino, bf16"]["state"] == "absent"  # as on a CPU that has no bfloat16


@pytest.mark.parametrize(
    ("flags", "lacks"),
    [
        ("sse4_2", {"AVX2", "AVX-512", "VNNI", "bfloat16"}),
        ("avx2 fma", {"AVX-512", "VNNI", "bfloat16"}),  # a Haswell
        ("avx2 avx_vnni", {"AVX-512", "bfloat16"}),  # a laptop of 2023
        ("avx2 avx512f avx512_vnni", {"bfloat16"}),
        ("avx2 avx512f avx512_vnni avx512_bf16", set()),
    ],
)
def test_what_the_cpu_lacks_is_told_with_what_it_costs(tmp_path, flags, lacks):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu {flags}\n")
    report = {finding.what: finding for finding in examine_cpu(cpuinfo)}
    assert {what.removeprefix("CPU, ") for what in report if what.startswith("CPU, ")} == lacks
    assert all(report[f"CPU, {name}"].state == "absent" for name in lacks)  # it works, so nothing is broken
    if "bfloat16" in lacks:
        assert "--precision bf16 cannot be used" in report["CPU, bfloat16"].advice
    if "VNNI" in lacks:
        assert "int8" in report["CPU, VNNI"].advice
    assert report["CPU"].found.startswith("Some CPU: ")


def test_a_cpu_that_is_no_x86_lacks_nothing_of_an_x86(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert [finding.what for finding in examine_cpu(tmp_path / "cpuinfo")] == ["CPU", "cores"]


def test_a_broken_gpu_driver_is_told(tmp_path, monkeypatch, capsys):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert main([]) == 1
    assert "version mismatch" in findings(capsys.readouterr().out)["GPU"]["found"]


def test_advice_with_an_extras_name_is_printed_whole(tmp_path, monkeypatch):
    """In the table's markup, [ray] would be the name of a style."""
    monkeypatch.setenv("COLUMNS", "300")
    done = run_doctor()
    extras = [finding["advice"] for finding in findings(done.stdout).values() if "pip install -e" in finding["advice"]]
    if not extras:
        pytest.skip("every extra is installed here")
    table = done.stdout.rsplit("\n{", 1)[0]
    assert all(advice in table for advice in extras)
