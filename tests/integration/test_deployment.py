"""Dockerfile, compose.yaml and kubernetes.yaml say of the server what is true of it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from fastapi.testclient import TestClient

from bge_rerank_integrations import Scorer
from bge_rerank_integrations.cli import app as cli
from bge_rerank_integrations.cli.serve import serve
from bge_rerank_integrations.serve import ServerSettings, create_app
from bge_rerank_integrations.serve.run import AFTER_GRACE

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
KUBERNETES: dict[str, dict[str, Any]] = {
    one["kind"]: one for one in yaml.safe_load_all((ROOT / "kubernetes.yaml").read_text(encoding="utf-8"))
}
POD: dict[str, Any] = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def parsed(*words: str) -> dict[str, Any]:
    """What `bge-rerank serve` understands."""
    command: Any = typer.main.get_command(cli)
    context = command.commands["serve"].make_context("serve", list(words))
    return dict(context.params)


def in_dockerfile(pattern: str) -> str:
    (found,) = re.findall(pattern, DOCKERFILE, re.MULTILINE)
    return str(found)


def default(name: str) -> Any:
    return parsed("demo")[name]


def test_the_image_is_built_from_what_is_there() -> None:
    let_in = [
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    ]
    copied = {name for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()}
    assert copied == set(let_in)
    assert all((ROOT / name).exists() for name in copied)
    extras = in_dockerfile(r"'\.\[(.*)\]'").split(",")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)
    assert re.search(r"^torch==[\d.]+$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_image_runs_the_server_without_root() -> None:
    user = in_dockerfile(r"^USER (.*)$")
    assert user.isdecimal()
    assert int(user) > 0
    assert user == in_dockerfile(r"useradd --uid (\d+)")
    assert in_dockerfile(r"^EXPOSE (.*)$") == str(default("port"))
    assert f"127.0.0.1:{default('port')}/health" in DOCKERFILE
    words = re.findall(r'"(.*?)"', in_dockerfile(r"^ENTRYPOINT (.*)$") + in_dockerfile(r"^CMD (.*)$"))
    assert words[:2] == ["bge-rerank", "serve"]
    assert parsed(*words[2:])["host"] == "0.0.0.0"


def test_compose(monkeypatch: pytest.MonkeyPatch) -> None:
    (service,) = COMPOSE["services"].values()
    assert set(service["build"]["args"]) == {in_dockerfile(r"^ARG (\w+)=")}
    assert service["ports"] == [f"127.0.0.1:{default('port')}:{default('port')}"]
    assert service["volumes"] == ["models:" + in_dockerfile(r"^VOLUME (.*)$")]
    assert "HF_HOME=" + in_dockerfile(r"^VOLUME (.*)$") in DOCKERFILE
    assert int(service["stop_grace_period"].removesuffix("s")) > default("grace") + AFTER_GRACE
    (name,) = service["environment"]
    monkeypatch.setenv(name, "a-key")
    assert parsed("demo")["api_key"] == "a-key"
    monkeypatch.setenv(name, "")  # as compose sets it where there is none
    assert parsed("demo")["api_key"] is None


def test_kubernetes_starts_the_server_with_options_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(KUBERNETES) == {"Deployment", "Service", "PodDisruptionBudget"}
    options = parsed(*CONTAINER["args"])
    (port,) = CONTAINER["ports"]
    assert port["containerPort"] == options["port"]
    (behind,) = KUBERNETES["Service"]["spec"]["ports"]
    assert behind["targetPort"] == port["name"]
    assert str(POD["securityContext"]["runAsUser"]) == in_dockerfile(r"^USER (.*)$")
    environment = {one["name"]: one.get("value", "a-key") for one in CONTAINER["env"]}
    assert environment["OMP_NUM_THREADS"] == CONTAINER["resources"]["limits"]["cpu"]
    monkeypatch.setattr(os, "environ", os.environ | environment)
    assert parsed(*CONTAINER["args"])["api_key"] == "a-key"
    (mounted,) = CONTAINER["volumeMounts"]
    assert mounted["mountPath"] == in_dockerfile(r"^VOLUME (.*)$")
    assert [volume["name"] for volume in POD["volumes"]] == [mounted["name"]]
    labels = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        KUBERNETES["Deployment"]["spec"]["selector"]["matchLabels"],
        KUBERNETES["Service"]["spec"]["selector"],
        KUBERNETES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector == labels


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_of_kubernetes_is_answered_without_the_key(name: str, encoder: Scorer) -> None:
    probe = CONTAINER[name]
    assert probe["httpGet"]["port"] == CONTAINER["ports"][0]["name"]
    with TestClient(create_app({"demo": encoder}, ServerSettings(api_key="a-key"))) as client:
        assert client.get(probe["httpGet"]["path"]).status_code == 200


def test_kubernetes_waits_for_the_start_and_for_the_end() -> None:
    startup = CONTAINER["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 600
    slept = int(CONTAINER["lifecycle"]["preStop"]["exec"]["command"][1])
    grace = parsed(*CONTAINER["args"])["grace"]
    assert POD["terminationGracePeriodSeconds"] >= slept + grace + AFTER_GRACE


def test_the_page_on_kubernetes_names_metrics_and_options_that_there_are(encoder: Scorer) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        assert yaml.safe_load(block)["kind"]
    with TestClient(create_app({"demo": encoder})) as client:
        metrics = client.get("/metrics").text
    for name in set(re.findall(r"bge_rerank_\w+", page)):
        assert name in metrics
    known = {parameter.replace("_", "-") for parameter in serve.__annotations__}
    assert set(re.findall(r"`--([\w-]+)`", page)) <= known
