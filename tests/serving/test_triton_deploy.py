"""deploy/triton: files of the right shape, that agree with one another and with a real server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import triton_server
from tests.support.builders import mf_router

yaml = pytest.importorskip("yaml")

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "triton"
KUBERNETES = DEPLOY / "kubernetes"
LABELS = {"app.kubernetes.io/name": "triton-router"}


def document(path: Path) -> Any:
    found = list(yaml.safe_load_all(path.read_text()))
    assert len(found) == 1
    return found[0]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEPLOY / script), *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton_server.Server]:
    triton_server.environment()
    pytest.importorskip("tritonclient.grpc")
    from routellm_fast.export import export_triton

    home = tmp_path_factory.mktemp("deploy")
    mf_router().save(home / "router")
    export_triton(home / "router", home / "repository")
    with triton_server.start(home / "repository") as running:
        yield running


def test_every_manifest_is_named_once_and_selects_the_pods() -> None:
    named = document(KUBERNETES / "kustomization.yaml")
    assert {path.name for path in KUBERNETES.glob("*.yaml")} == {
        *named["resources"],
        "kustomization.yaml",
        "prometheus-adapter-values.yaml",
    }
    kinds = {}
    for name in named["resources"]:
        manifest = document(KUBERNETES / name)
        assert set(manifest) >= {"apiVersion", "kind", "metadata", "spec"}
        assert manifest["metadata"]["name"] == "triton-router"
        kinds[manifest["kind"]] = manifest
    assert set(kinds) == {
        "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "ServiceMonitor",
    }  # fmt: skip
    pods = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert pods == LABELS
    assert kinds["Deployment"]["spec"]["selector"]["matchLabels"] == LABELS
    assert kinds["Service"]["spec"]["selector"] == LABELS
    assert kinds["Service"]["metadata"]["labels"] == LABELS
    assert kinds["ServiceMonitor"]["spec"]["selector"]["matchLabels"] == LABELS
    assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == LABELS
    target = kinds["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "triton-router")


def test_probes_run_the_script_that_is_mounted() -> None:
    spec = document(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert set(mounts) == set(volumes)
    (generated,) = document(KUBERNETES / "kustomization.yaml")["configMapGenerator"]
    assert volumes["probe"]["configMap"]["name"] == generated["name"]
    (entry,) = generated["files"]
    name, _, source = entry.partition("=")
    assert (KUBERNETES / source).resolve() == DEPLOY / "probe.py"
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container[kind]
        command = probe["exec"]["command"]
        assert command[:2] == ["python3", f"{mounts['probe']}/{name}"]
        # The script gives up before it is killed, and says why.
        assert float(command[command.index("--timeout") + 1]) < probe["timeoutSeconds"]
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 60
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8000, "grpc": 8001, "metrics": 8002}
    annotations = document(KUBERNETES / "deployment.yaml")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["metrics"])
    assert f"--model-repository={mounts['models']}" in container["args"]


def test_compose_mounts_files_that_are_there() -> None:
    service = document(DEPLOY / "compose.yaml")["services"]["triton"]
    assert (DEPLOY / "Dockerfile").is_file()
    mounted = dict(entry.split(":")[:2] for entry in service["volumes"])
    assert (DEPLOY / "probe.py").is_file()
    assert mounted["./probe.py"] in service["healthcheck"]["test"]
    assert f"--model-repository={mounted['./models']}" in service["command"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.slow
def test_the_autoscalers_metric_is_made_of_what_the_server_has(server: triton_server.Server) -> None:
    (rule,) = document(KUBERNETES / "prometheus-adapter-values.yaml")["rules"]["custom"]
    (metric,) = document(KUBERNETES / "hpa.yaml")["spec"]["metrics"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
    series = set(re.findall(r"nv_\w+", rule["seriesQuery"] + rule["metricsQuery"]))
    assert len(series) == 2
    assert run("probe.py", "--url", server.http_url).returncode == 0
    for name in series:
        assert f'{name}{{model="router"' in server.metrics()


@pytest.mark.slow
def test_the_probe_says_what_is_wrong(server: triton_server.Server) -> None:
    assert run("probe.py", "--url", server.http_url).stderr == ""
    missing = run("probe.py", "--url", server.http_url, "--model", "nobody")
    assert missing.returncode == 1
    assert "404" in missing.stderr
    gone = run("probe.py", "--url", "http://127.0.0.1:9", "--timeout", "1")
    assert (gone.returncode, "Traceback" in gone.stderr) == (1, False)
    assert run("probe.py", "--url", "grpc://127.0.0.1:9").returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_load_reports_every_number_of_clients(server: triton_server.Server, protocol: str) -> None:
    pytest.importorskip("tritonclient.http")
    url = getattr(server, f"{protocol}_url")
    found = run("load.py", url, "--clients", "1", "4", "--seconds", "0.3", "--json")
    assert found.returncode == 0, found.stderr
    rows = json.loads(found.stdout)
    assert [row["clients"] for row in rows] == [1, 4]
    for row in rows:
        assert row["requests"] > 0
        assert row["failures"] == 0
        assert row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
    broken = run("load.py", url, "--model", "nobody", "--clients", "1", "--seconds", "0.1")
    assert broken.returncode == 1
