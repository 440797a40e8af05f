"""What `kubectl apply -k deploy/` and the overlay of its README make."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.apiserver import ControlPlane
from harness.binaries import REPOSITORY, kube_binaries, kustomize
from harness.client import Api, Manifest

DEPLOY = REPOSITORY / "deploy"
README = (DEPLOY / "README.md").read_text(encoding="utf-8")


def only(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """Find the one manifest of a kind whose name starts with `name`."""
    [found] = [item for item in manifests if item["kind"] == kind and item["metadata"]["name"].startswith(name)]
    return found


@pytest.fixture(scope="module")
def rendered() -> list[Manifest]:
    return kustomize(DEPLOY, binaries=kube_binaries())


async def test_the_api_server_takes_everything_and_runs_the_operator_under_the_restricted_profile(
    installed: ControlPlane, api: Api, rendered: list[Manifest]
) -> None:
    namespace = await api.get("Namespace", "chorus-system")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    template = (await api.get("Deployment", "chorus-operator", namespace="chorus-system"))["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "as-the-deployment-makes-it", "namespace": "chorus-system"},
        "spec": template["spec"],
    }
    admitted = await api.create(pod)  # the namespace enforces the profile
    [container] = admitted["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    await api.delete("Pod", "as-the-deployment-makes-it", namespace="chorus-system")


def test_no_right_is_a_wildcard_or_reads_many_secrets_or_enters_a_pod(rendered: list[Manifest]) -> None:
    roles = [manifest for manifest in rendered if manifest["kind"] in {"Role", "ClusterRole"}]
    assert len(roles) == 5
    for rule in (rule for role in roles for rule in role["rules"]):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert not {"pods/exec", "pods/attach", "pods/portforward"} & set(rule["resources"])
        assert "secrets" not in rule["resources"] or not {"list", "watch"} & set(rule["verbs"])


def test_the_service_leads_to_the_port_that_receives_messages(rendered: list[Manifest]) -> None:
    service = only(rendered, "Service")
    deployment = only(rendered, "Deployment")
    template = deployment["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert not service["spec"].get("publishNotReadyAddresses")
    [port] = service["spec"]["ports"]
    [container] = template["spec"]["containers"]
    ports = {entry["name"]: entry["containerPort"] for entry in container["ports"]}
    assert (port["port"], ports[port["targetPort"]]) == (8443, 8443)
    [url] = [entry["value"] for entry in container["env"] if entry["name"] == "CHORUS_MESSAGES_URL"]
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    assert url == f"https://{host}:8443/v1/messages"


def test_the_readme_lists_exactly_the_variables_that_the_operator_gets(rendered: list[Manifest]) -> None:
    [container] = only(rendered, "Deployment")["spec"]["template"]["spec"]["containers"]
    given = {entry["name"] for entry in container["env"]} | set(only(rendered, "ConfigMap")["data"])
    assert set(re.findall(r"^\| `(CHORUS_\w+)`", README, re.MULTILINE)) == given


def test_the_overlay_of_the_readme_sets_every_image(tmp_path: Path) -> None:
    [block] = re.findall(r"```yaml\n# my-chorus(.*?)```", README, re.DOTALL)
    overlay: dict[str, Any] = yaml.safe_load(f"# {block}")
    assert overlay["resources"] == ["../deploy"]
    overlay["resources"] = [os.path.relpath(DEPLOY, tmp_path)]  # kustomize wants relative paths
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    made = kustomize(tmp_path, binaries=kube_binaries())
    images = only(made, "ConfigMap")
    pod = only(made, "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["image"] == images["data"]["CHORUS_OPERATOR_IMAGE"]
    assert images["data"]["CHORUS_TRAINER_IMAGE"].startswith("registry.example/")
    assert container["envFrom"] == [{"configMapRef": {"name": images["metadata"]["name"]}}]
