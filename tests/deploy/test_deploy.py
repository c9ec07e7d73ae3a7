"""The files in deploy/ fit the server, Kubernetes and systemd."""

import io
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml
from fastapi.testclient import TestClient

from serving.embedder import Embedder
from serving.server.api_keys import ApiKeys
from serving.server.app import create_app
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline
from serving.server.process import GRACE_S
from serving.server.serve_command import ServeOptions, check_serve_options

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "unheard.service"
VERSIONS = {
    "Deployment": "apps/v1",
    "Service": "v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}


def options_of(arguments: list[str]) -> ServeOptions:
    options = tyro.cli(ServeOptions, args=arguments)
    check_serve_options(options)
    return options


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """The Kubernetes objects by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


@pytest.fixture(scope="module")
def container(objects) -> dict[str, Any]:
    (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    return container


def test_every_object_is_of_a_known_kind_and_version(objects):
    assert {kind: each["apiVersion"] for kind, each in objects.items()} == VERSIONS


def test_the_server_understands_the_flags_and_has_the_time_that_it_needs_to_end(objects, container):
    options = options_of(container["args"])
    assert options.host == "0.0.0.0"
    assert options.port == container["ports"][0]["containerPort"]
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= options.limits.request_timeout_s + GRACE_S + pause_s
    assert options.api_key_file is not None
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(options.bundle), str(options.api_key_file.parent)} < mounts
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_probes_and_the_scaled_metric_are_the_servers(objects, container):
    pipeline = Pipeline(Embedder.load("demo/model-from-scratch", backend="onnxruntime"), Limits())
    paths = create_app(pipeline).openapi()["paths"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in paths
        assert container[probe]["httpGet"]["port"] == container["ports"][0]["name"]
    (metric,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert f"\n{metric['pods']['metric']['name']} " in pipeline.metrics.text().decode()
    per_pod = float(metric["pods"]["target"]["averageValue"])
    assert per_pod < Limits().queue_seconds / 2  # further servers come before requests are refused


def test_the_scrape_job_finds_the_pods_and_sends_the_key_that_the_server_wants(objects, container):
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    keep = {
        rule["source_labels"][0].removeprefix("__meta_kubernetes_pod_"): rule["regex"]
        for rule in job["relabel_configs"]
        if rule.get("action") == "keep"
    }
    pod = objects["Deployment"]["spec"]["template"]["metadata"]
    # Prometheus writes a label's characters other than letters and digits as _.
    assert keep == {
        "label_app_kubernetes_io_name": pod["labels"]["app.kubernetes.io/name"],
        "container_port_name": container["ports"][0]["name"],
    }
    assert options_of(container["args"]).api_key_file is not None
    assert "annotations" not in pod  # prometheus.io/scrape sends no key
    key = "a-key-for-prometheus"
    keys = ApiKeys([f"{key} name=prometheus"])
    client = TestClient(create_app(Pipeline(Embedder.load("demo/model-from-scratch", "onnxruntime"), Limits()), keys))
    assert client.get(job["metrics_path"]).status_code == 401
    header = {"authorization": f"{job['authorization']['type']} {key}"}
    answer = client.get(job["metrics_path"], headers=header)
    assert answer.status_code == 200
    (metric,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert f"\n{metric['pods']['metric']['name']} " in answer.text


def test_the_selectors_find_the_pods(objects):
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert (
        objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"]
        == objects["Deployment"]["metadata"]["name"]
    )


def test_the_container_has_limits_and_no_rights(objects, container):
    assert container["resources"]["limits"].keys() == {"cpu", "memory"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert str(pod["securityContext"]["runAsUser"]) in (DEPLOY.parent / "Dockerfile").read_text()


def test_the_unit_starts_the_server_with_flags_that_it_understands():
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    program, *arguments = shlex.split(line)
    assert program.endswith("/python")
    assert arguments[:2] == ["-m", "serving"]
    options = options_of(arguments[2:])
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert int(seconds) >= options.limits.request_timeout_s + GRACE_S


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_knows_every_line_of_the_unit():
    done = subprocess.run(["systemd-analyze", "verify", UNIT], capture_output=True, text=True, timeout=60)
    # The project is not installed where the unit expects it.
    others = [
        line for line in io.StringIO(done.stderr) if "/opt/unheard/.venv/bin/python is not executable" not in line
    ]
    assert not [line for line in others if "unheard" in line], done.stderr
