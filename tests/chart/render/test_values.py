"""The schema refuses values that are misspelt, of the wrong type or out of bounds, and says which."""

from __future__ import annotations

from typing import Any

import pytest

from harness.helm import Helm, HelmFailed

BAD: list[tuple[dict[str, Any], str]] = [
    ({"operater": {}}, "operater"),
    ({"operator": {"replica": 2}}, "replica"),
    ({"operator": {"replicas": 3}}, "replicas"),
    ({"operator": {"replicas": "1"}}, "replicas"),
    ({"operator": {"image": {"repository": "x"}}}, "repository"),
    ({"operator": {"image": {"digest": "sha256:123"}}}, "digest"),
    ({"operator": {"image": {"tag": "a b"}}}, "tag"),
    ({"operator": {"image": {"pullPolicy": "Sometimes"}}}, "pullPolicy"),
    ({"operator": {"image": {"registry": "https://registry.example"}}}, "registry"),
    ({"operator": {"logLevel": "loud"}}, "logLevel"),
    ({"operator": {"tolerations": [{"keys": "a"}]}}, "keys"),
    ({"operator": {"tolerations": [{"effect": "Never"}]}}, "effect"),
    ({"operator": {"topologySpreadConstraints": [{"maxSkew": 1}]}}, "topologyKey"),
    ({"operator": {"affinity": {"nodeAffinty": {}}}}, "nodeAffinty"),
    ({"operator": {"extraEnv": [{"name": "a-b", "value": "c"}]}}, "name"),
    ({"operator": {"resources": {"limit": {}}}}, "limit"),
    ({"operator": {"resources": {"limits": {"memory": "lots"}}}}, "memory"),
    ({"operator": {"podDisruptionBudget": {"maxUnavailable": 2}}}, "maxUnavailable"),
    ({"jobResources": {"limit": {"cpu": "1"}}}, "limit"),
    ({"jobResources": {"limits": {"cpu": "much"}}}, "cpu"),
    ({"jobResources": {"limits": {"cpu": 1}}}, "cpu"),
    ({"jobResources": {"limits": {"nvidia.com/gpu": "1"}}}, "nvidia.com/gpu"),
    ({"rbac": {"scope": "Namespace"}}, "scope"),
    ({"rbac": {"scope": "Namespaces", "namespaces": ["Team-A"]}}, "namespaces"),
    ({"crds": {"keep": "yes"}}, "keep"),
    ({"networkPolicy": {"apiServer": {"cidrs": ["10.0.0.1"]}}}, "cidrs"),
    ({"networkPolicy": {"apiServer": {"ports": [0]}}}, "ports"),
    ({"monitoring": {"serviceMonitor": {"enable": True}}}, "enable"),
    ({"monitoring": {"serviceMonitor": {"interval": "often"}}}, "interval"),
    ({"global": {"imagePullSecrets": ["mine"]}}, "imagePullSecrets"),
    ({"commonLabels": {"a": 1}}, "commonLabels"),
    ({"test": {"deadlineSeconds": 5}}, "deadlineSeconds"),
    ({"extraObjects": {"kind": "ConfigMap"}}, "extraObjects"),
]


@pytest.mark.parametrize(("values", "named"), BAD, ids=[f"{named}-{number}" for number, (_, named) in enumerate(BAD)])
def test_a_bad_value_is_refused_by_name(helm: Helm, values: dict[str, Any], named: str) -> None:
    with pytest.raises(HelmFailed, match=named):
        helm.template(values)


def test_a_default_can_be_taken_away(helm: Helm) -> None:
    made = helm.template({"operator": {"resources": {"limits": {"memory": None}}}})
    assert made
