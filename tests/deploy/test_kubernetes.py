"""The manifests have what Kubernetes asks of each kind, and agree with the code and each other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from likewise.cli.resolve import ENVIRONMENT
from likewise.cli.settings import DEFAULT_PORT
from likewise.server.app import build
from likewise.server.readiness import FIRST_WAIT_S
from likewise.server.run import GRACE_S
from tests.deploy.commands import parsed
from tests.deploy.test_docker import instructions
from tests.deploy.test_watching import exported, wrong
from tests.unit.server.fakes import FakeModel

Manifest = dict[str, Any]

REQUIRED: dict[tuple[str, str], tuple[str, ...]] = {
    ("apps/v1", "Deployment"): ("spec.selector.matchLabels", "spec.template.spec.containers"),
    ("v1", "Service"): ("spec.selector", "spec.ports"),
    ("v1", "Secret"): ("type", "stringData"),
    ("policy/v1", "PodDisruptionBudget"): ("spec.selector.matchLabels", "spec.minAvailable"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): (
        "spec.scaleTargetRef.apiVersion", "spec.scaleTargetRef.kind", "spec.scaleTargetRef.name",
        "spec.minReplicas", "spec.maxReplicas", "spec.metrics",
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): ("spec.selector", "spec.podMetricsEndpoints"),
    ("keda.sh/v1alpha1", "ScaledObject"): ("spec.scaleTargetRef.name", "spec.triggers"),
    ("kustomize.config.k8s.io/v1beta1", "Kustomization"): ("resources",),
}  # fmt: skip


def at(manifest: Manifest, path: str) -> Any:
    found: Any = manifest
    for name in path.split("."):
        found = found[name]
    return found


def yaml_files(repo: Path) -> Iterator[Path]:
    yield from sorted((repo / "deploy").rglob("*.yaml"))


@pytest.fixture(scope="module")
def manifests(repo: Path) -> dict[str, Manifest]:
    found: dict[str, Manifest] = {}
    for path in (repo / "deploy" / "kubernetes").glob("*.yaml"):
        for one in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            assert one["kind"] not in found
            found[one["kind"]] = one
    return found


@pytest.fixture(scope="module")
def pod(manifests: dict[str, Manifest]) -> Manifest:
    spec: Manifest = at(manifests["Deployment"], "spec.template.spec")
    return spec


@pytest.fixture(scope="module")
def container(pod: Manifest) -> Manifest:
    (only,) = pod["containers"]
    assert isinstance(only, dict)
    return only


def test_yaml_is_well_written(repo: Path) -> None:
    config = YamlLintConfig(file=str(repo / "deploy" / "yamllint.yaml"))
    files = list(yaml_files(repo))
    assert len(files) > 8
    for path in files:
        problems = list(linter.run(path.read_text(encoding="utf-8"), config))
        assert [f"{path.name}:{each.line}: {each.desc}" for each in problems] == []


def test_the_lint_sees_what_is_wrong(repo: Path) -> None:
    config = YamlLintConfig(file=str(repo / "deploy" / "yamllint.yaml"))
    assert list(linter.run("---\na: 1\na: 2\n", config))


def test_every_manifest_has_what_its_kind_needs(manifests: dict[str, Manifest]) -> None:
    assert {(one["apiVersion"], one["kind"]) for one in manifests.values()} == set(REQUIRED)
    for kind, one in manifests.items():
        for path in REQUIRED[one["apiVersion"], kind]:
            assert at(one, path), (kind, path)
        if kind != "Kustomization":
            assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", one["metadata"]["name"])


def test_selectors_find_the_pods(manifests: dict[str, Manifest]) -> None:
    labels = at(manifests["Deployment"], "spec.template.metadata.labels")
    for kind, path in (
        ("Deployment", "spec.selector.matchLabels"),
        ("Service", "spec.selector"),
        ("PodDisruptionBudget", "spec.selector.matchLabels"),
        ("PodMonitor", "spec.selector.matchLabels"),
    ):
        assert at(manifests[kind], path).items() <= labels.items(), kind
    name = at(manifests["Deployment"], "metadata.name")
    assert at(manifests["HorizontalPodAutoscaler"], "spec.scaleTargetRef") == {
        "apiVersion": "apps/v1", "kind": "Deployment", "name": name
    }  # fmt: skip
    assert at(manifests["ScaledObject"], "spec.scaleTargetRef.name") == name
    least = at(manifests["HorizontalPodAutoscaler"], "spec.minReplicas")
    assert least > at(manifests["PodDisruptionBudget"], "spec.minAvailable")


def test_what_is_listed_is_there(manifests: dict[str, Manifest], repo: Path) -> None:
    for name in manifests["Kustomization"]["resources"]:
        assert (repo / "deploy" / "kubernetes" / name).is_file()


def test_ports_agree(manifests: dict[str, Manifest], container: Manifest) -> None:
    (port,) = container["ports"]
    assert port["containerPort"] == DEFAULT_PORT
    (service,) = at(manifests["Service"], "spec.ports")
    assert service["targetPort"] == port["name"]
    assert service["port"] == DEFAULT_PORT
    (endpoint,) = at(manifests["PodMonitor"], "spec.podMetricsEndpoints")
    assert endpoint["port"] == port["name"]


def test_probes_ask_what_is_there(manifests: dict[str, Manifest], container: Manifest) -> None:
    routes = {getattr(route, "path", "") for route in build({"m": FakeModel()}).routes}
    asked = {}
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container[kind]
        asked[kind] = probe["httpGet"]["path"]
        assert probe["httpGet"]["port"] == container["ports"][0]["name"]
        assert probe["httpGet"]["path"] in routes
        assert {"periodSeconds", "timeoutSeconds", "failureThreshold"} <= set(probe)
        if asked[kind] == "/ready":
            assert probe["timeoutSeconds"] > FIRST_WAIT_S
    # A pod that drains or whose model fails must get no requests, and mustn't be killed for it.
    assert asked == {
        "startupProbe": "/ready", "readinessProbe": "/ready", "livenessProbe": "/health"
    }  # fmt: skip
    (endpoint,) = at(manifests["PodMonitor"], "spec.podMetricsEndpoints")
    assert endpoint["path"] in routes


def test_the_command_is_one_and_stops_in_time(container: Manifest, pod: Manifest) -> None:
    values = parsed(container["args"])
    assert (values["command"], values["host"], values["port"]) == ("serve", "0.0.0.0", DEFAULT_PORT)
    drain_s = values["drain_s"]
    assert isinstance(drain_s, float)
    assert drain_s >= container["readinessProbe"]["periodSeconds"]
    assert pod["terminationGracePeriodSeconds"] > GRACE_S + drain_s


def test_nothing_may_be_done_that_neednt(container: Manifest, pod: Manifest, repo: Path) -> None:
    assert pod["automountServiceAccountToken"] is False
    own = pod["securityContext"]
    assert own["runAsNonRoot"] is True
    assert own["seccompProfile"] == {"type": "RuntimeDefault"}
    lines = instructions((repo / "deploy" / "Dockerfile").read_text(encoding="utf-8"))
    user = f"{own['runAsUser']}:{own['runAsGroup']}"
    assert user == [rest for word, rest in lines if word == "USER"][-1]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    assert not container["image"].endswith(":latest")


def test_volumes_and_secrets_are_there(
    manifests: dict[str, Manifest], container: Manifest, pod: Manifest
) -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounts.values()) == set(volumes)
    # Where a read-only root leaves nothing else to write to.
    assert {"/models", "/tmp"} <= set(mounts)
    secret = manifests["Secret"]
    assert at(volumes["keys"], "secret.secretName") == secret["metadata"]["name"]
    for one in container["env"]:
        assert one["name"] in ENVIRONMENT
        folder, _, file = one["value"].rpartition("/")
        assert mounts[folder] == "keys"
        assert file in secret["stringData"]
    (endpoint,) = at(manifests["PodMonitor"], "spec.podMetricsEndpoints")
    credentials = endpoint["authorization"]["credentials"]
    assert credentials["name"] == secret["metadata"]["name"]
    assert credentials["key"] in secret["stringData"]


def test_autoscaling_reads_a_metric_that_is_there(
    manifests: dict[str, Manifest], repo: Path
) -> None:
    known = exported()
    (metric,) = at(manifests["HorizontalPodAutoscaler"], "spec.metrics")
    assert metric["pods"]["metric"]["name"] in known
    (trigger,) = at(manifests["ScaledObject"], "spec.triggers")
    assert wrong(trigger["metadata"]["query"], known) == []
    text = (repo / "deploy" / "kubernetes" / "hpa.yaml").read_text(encoding="utf-8")
    for name in re.findall(r"likewise_\w+", text):
        assert name in known
