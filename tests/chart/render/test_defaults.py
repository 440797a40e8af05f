"""The chart without any value set makes what `kubectl apply -k deploy/` makes, with either version of Helm."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from harness.binaries import REPOSITORY, kube_binaries, kustomize
from harness.client import Manifest
from harness.helm import CHART, RELEASE, Helm, is_hook, of_kind, only, operator_container

HELMS_OWN = {
    "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart",
}  # fmt: skip
EVERYTHING: Manifest = {
    "commonLabels": {"team": "ml"},
    "rbac": {"scope": "Namespaces", "namespaces": ["a", "b"]},
    "operator": {"replicas": 2, "podDisruptionBudget": {"enabled": True}},
    "networkPolicy": {"enabled": True},
    "monitoring": {"serviceMonitor": {"enabled": True}},
}


def normal(manifests: list[Manifest]) -> dict[tuple[str, str, str], Manifest]:
    """Objects by kind, namespace and name, without what Helm or kustomize adds for itself."""
    settings = {one["metadata"]["name"]: one["data"] for one in of_kind(manifests, "ConfigMap")}
    found = {}
    for manifest in manifests:
        if manifest["kind"] in {"Namespace", "ConfigMap"}:
            continue
        metadata = _unlabelled(manifest["metadata"])
        metadata.pop("annotations", None)
        plain = manifest | {"metadata": metadata}
        if manifest["kind"] == "Deployment":
            plain["spec"] = _deployment(manifest["spec"], settings)
        found[manifest["kind"], metadata.get("namespace", ""), metadata["name"]] = plain
    return found


def _unlabelled(metadata: Manifest) -> Manifest:
    labels = {name: value for name, value in metadata.get("labels", {}).items() if name not in HELMS_OWN}
    return metadata | {"labels": labels}


def _deployment(spec: Manifest, settings: dict[str, dict[str, str]]) -> Manifest:
    """The variables in one list, wherever they come from."""
    template = spec["template"]
    [container] = template["spec"]["containers"]
    named = [source["configMapRef"]["name"] for source in container.get("envFrom", [])]
    variables = {entry["name"]: entry for entry in container["env"]}
    variables |= {key: {"name": key, "value": value} for name in named for key, value in settings[name].items()}
    plain = {key: value for key, value in container.items() if key != "envFrom"} | {"env": variables}
    pod = template["spec"] | {"containers": [plain]}
    return spec | {"template": {"metadata": _unlabelled(template["metadata"]), "spec": pod}}


@pytest.fixture(scope="module")
def plain() -> dict[tuple[str, str, str], Manifest]:
    return normal(kustomize(REPOSITORY / "deploy", binaries=kube_binaries()))


def test_the_objects_are_those_of_the_plain_manifests(helm: Helm, plain: dict[tuple[str, str, str], Manifest]) -> None:
    made = normal(helm.template())
    assert made.keys() == plain.keys()
    for key, manifest in plain.items():
        assert made[key] == manifest, key


def test_the_image_of_jobs_is_the_operators_own(helm4: Helm) -> None:
    container = operator_container(helm4.template({"operator": {"image": {"tag": "7"}}}))
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert container["image"] == variables["CHORUS_OPERATOR_IMAGE"] == "chorus-operator:7"


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_both_versions_of_helm_make_the_same(values: Manifest) -> None:
    assert Helm("helm3").template(values, hooks=True) == Helm("helm4").template(values, hooks=True)


def test_the_linter_finds_nothing(helm: Helm) -> None:
    told = helm.run("lint", "--strict", "--kube-version", "1.36.0", str(CHART))
    assert "0 chart(s) failed" in told
    assert not re.findall(r"\[(WARNING|ERROR)\]", told)


@pytest.mark.parametrize("version", ["1.33.9", "1.34.0-rc.1", "1.34.0"])
def test_older_clusters_are_refused(helm: Helm, version: str) -> None:
    words = ("template", RELEASE, str(CHART), "--kube-version", version)
    if version.startswith("1.33"):
        with pytest.raises(Exception, match=r">=1\.34\.0-0"):
            helm.run(*words)
    else:
        assert helm.run(*words)


def test_every_object_in_a_namespace_names_it_and_carries_the_labels(helm4: Helm) -> None:
    cluster_scoped = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    for manifest in helm4.template(EVERYTHING, hooks=True):
        metadata = manifest["metadata"]
        assert ("namespace" in metadata) == (manifest["kind"] not in cluster_scoped), manifest["kind"]
        labels = metadata["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels["team"] == "ml"


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        ("chorus", {}, "chorus-operator"),
        ("ml", {}, "ml-chorus-operator"),
        ("my-chorus", {}, "my-chorus-operator"),
        ("chorus", {"fullnameOverride": "train"}, "train-operator"),
        ("a" * 53, {}, "a" * 40 + "-operator"),
    ],
)
def test_names_are_made_of_the_release(helm4: Helm, release: str, values: dict[str, Any], name: str) -> None:
    made = helm4.template(values, release=release, namespace="elsewhere")
    assert only(made, "Deployment")["metadata"]["name"] == name
    assert only(made, "Service")["metadata"]["name"] == name
    variables = {entry["name"]: entry.get("value") for entry in operator_container(made)["env"]}
    assert variables["CHORUS_MESSAGES_URL"] == f"https://{name}.elsewhere.svc:8443/v1/messages"
    for manifest in helm4.template(values, release=release, hooks=True):
        assert len(manifest["metadata"]["name"]) <= 63


def test_a_packed_chart_renders_like_its_directory(helm: Helm, tmp_path: Any) -> None:
    helm.run("package", str(CHART), "--destination", str(tmp_path))
    [packed] = tmp_path.glob("chorus-*.tgz")
    assert helm.template(EVERYTHING, chart=packed, hooks=True) == helm.template(EVERYTHING, hooks=True)


def test_as_part_of_another_chart_it_accepts_what_others_keep_in_global(helm: Helm, tmp_path: Any) -> None:
    umbrella = {"apiVersion": "v2", "name": "umbrella", "version": "1.0.0"}
    dependency = {"name": "chorus", "version": ">=0.0.0-0", "repository": f"file://{CHART}"}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(umbrella | {"dependencies": [dependency]}), encoding="utf-8")
    helm.run("dependency", "update", "--skip-refresh", str(tmp_path))
    values = {
        "global": {"imageRegistry": "registry.example", "somethingElse": 1},
        "chorus": {"operator": {"replicas": 2}},
    }
    made = helm.template(values, release="umbrella", chart=tmp_path)
    assert only(made, "Deployment")["spec"]["replicas"] == 2
    assert operator_container(made)["image"].startswith("registry.example/chorus-operator:")
    assert not [manifest for manifest in made if is_hook(manifest)]
