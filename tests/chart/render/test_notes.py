"""What is printed after an installation: a manifest that can be applied, and what uninstalling keeps."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from chorus_api.crd import KINDS
from harness.helm import NAMESPACE, RELEASE, Helm, only

AS_OBJECT = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "notes"},
    "data": {"notes": '{{ include (print .Template.BasePath "/NOTES.txt") . | b64enc }}'},
}


def notes(helm: Helm, values: Mapping[str, Any] | None = None) -> str:
    """The notes, by way of an object: `helm install --dry-run` would ask a cluster."""
    made = helm.template({**(values or {}), "extraObjects": [AS_OBJECT]})
    return base64.b64decode(only(made, "ConfigMap", "notes")["data"]["notes"]).decode()


def manifest(text: str) -> list[dict[str, Any]]:
    [block] = re.findall(r"<<'MANIFEST'\n(.*?)^MANIFEST$", text, re.MULTILINE | re.DOTALL)
    return list(yaml.safe_load_all(block))


def test_the_manifest_is_valid_and_complete(helm: Helm) -> None:
    specs = {kind.name: kind.spec for kind in KINDS}
    plugin, project = manifest(notes(helm))
    for one in (plugin, project):
        specs[one["kind"]].model_validate(one["spec"])
    assert project["spec"]["plugins"][0]["pluginRef"]["name"] == plugin["metadata"]["name"]
    rows = project["spec"]["dataset"]["source"]["inline"]["data"].splitlines()
    assert len(rows) >= plugin["spec"]["requires"]["minRows"]


def test_commands_name_the_release_and_a_namespace_that_is_served(helm4: Helm) -> None:
    whole = notes(helm4)
    assert f"helm -n {NAMESPACE} test {RELEASE}" in whole
    assert "wait cproj/first --for=jsonpath='{.status.phase}'=TRAINED" in whole
    assert set(re.findall(r"kubectl -n (\S+) (?:apply|wait|get|describe)", whole)) == {"default"}
    some = notes(helm4, {"rbac": {"scope": "Namespaces", "namespaces": ["team-b", "team-a"]}})
    assert "It serves team-a, team-b." in some
    assert set(re.findall(r"kubectl -n (\S+) (?:apply|wait|get|describe)", some)) == {"team-a"}
    assert "helm -n" not in notes(helm4, {"test": {"enabled": False}})


@pytest.mark.parametrize(
    ("crds", "told"),
    [
        ({"keep": True}, "Uninstalling keeps the CRDs, every Project, Plugin and TrainingRun, and the claims"),
        ({"keep": False}, "WARNING: crds.keep is false: uninstalling deletes the CRDs"),
        ({"enabled": False}, "The CRDs are not part of this release"),
    ],
)
def test_they_say_what_uninstalling_keeps(helm4: Helm, crds: dict[str, bool], told: str) -> None:
    text = notes(helm4, {"crds": crds})
    assert told in text
    assert text.count("ninstalling") == 1
