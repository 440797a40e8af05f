"""The examples for Argo CD and Flux: values that the chart takes, and names that fit together."""

from __future__ import annotations

from typing import Any

import yaml

from harness.binaries import REPOSITORY
from harness.helm import CHART, Helm, environment, only

GITOPS = REPOSITORY / "examples" / "gitops"


def documents(name: str) -> dict[tuple[str, str], dict[str, Any]]:
    found = yaml.safe_load_all((GITOPS / name).read_text(encoding="utf-8"))
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def test_argo_cd_gets_values_that_the_chart_takes(helm4: Helm) -> None:
    spec = documents("argocd-application.yaml")["Application", "chorus"]["spec"]
    assert REPOSITORY / spec["source"]["path"] == CHART
    values = spec["source"]["helm"]["valuesObject"]
    made = helm4.template(values, namespace=spec["destination"]["namespace"], hooks=True)
    assert made == helm4.template(values)  # no hook: Argo CD would run it at each sync
    assert environment(made)["CHORUS_OPERATOR_IMAGE"] == "registry.example/ml/chorus-operator:0.1.0"


def test_flux_gets_values_that_the_chart_takes(helm4: Helm) -> None:
    spec = documents("flux.yaml")["HelmRelease", "chorus"]["spec"]
    assert REPOSITORY / spec["chart"]["spec"]["chart"] == CHART
    made = helm4.template(spec["values"], release=spec["releaseName"], namespace=spec["targetNamespace"])
    assert only(made, "Deployment")["spec"]["replicas"] == 2


def test_sources_that_flux_objects_name_are_there() -> None:
    found = documents("flux.yaml")
    named = {
        found["HelmRelease", "chorus"]["spec"]["chart"]["spec"]["sourceRef"]["name"],
        found["Kustomization", "team-models"]["spec"]["sourceRef"]["name"],
    }
    assert {("GitRepository", name) for name in named} == {key for key in found if key[0] == "GitRepository"}


def test_flux_judges_by_conditions_and_phases_that_there_are() -> None:
    kinds = {
        crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]
        for crd in (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (REPOSITORY / "crds").glob("*s.yaml"))
    }
    for check in documents("flux.yaml")["Kustomization", "team-models"]["spec"]["healthCheckExprs"]:
        status = kinds[check["kind"]]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
        assert check["apiVersion"] == f"chorus.dev/{kinds[check['kind']]['name']}"
        told = check["current"] + check["failed"]
        for field in ("phase", "conditions"):
            assert f"status.{field}" not in told or field in status
        [condition] = {word for word in ("Ready", "Succeeded") if f"'{word}'" in told}
        assert condition in status["conditions"]["description"]
