"""What each value of the chart does to what is rendered."""

from __future__ import annotations

from typing import Any

import pytest

from chorus_api.resources import Resources
from chorus_operator.settings import read_settings
from harness.client import Manifest
from harness.helm import CHART, Helm, HelmFailed, environment, of_kind, only, operator_container, operator_pod

DIGEST = "sha256:" + "0123456789abcdef" * 4
POD = {"CHORUS_NAMESPACE": "chorus-system", "CHORUS_POD_NAME": "chorus-0"}
"""What the operator's pod is told of itself."""
KINDS = {"projects.chorus.dev", "plugins.chorus.dev", "trainingruns.chorus.dev"}


def names(manifests: list[Manifest], kind: str) -> set[str]:
    return {manifest["metadata"]["name"] for manifest in of_kind(manifests, kind)}


def test_the_definitions_are_kept_unless_told_otherwise(helm4: Helm) -> None:
    for values, kept in (({}, True), ({"crds": {"keep": False}}, False)):
        made = helm4.template(values)
        assert names(made, "CustomResourceDefinition") == KINDS
        for crd in of_kind(made, "CustomResourceDefinition"):
            policy = crd["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
            assert (policy == "keep") is kept


def test_without_definitions_nothing_else_changes(helm4: Helm) -> None:
    made = helm4.template({"crds": {"enabled": False}})
    assert made == [one for one in helm4.template() if one["kind"] != "CustomResourceDefinition"]


@pytest.mark.parametrize(
    ("image", "registry", "expected"),
    [
        ({}, "", "chorus-operator:0.1.0"),
        ({"tag": "3f9c"}, "", "chorus-operator:3f9c"),
        ({"digest": DIGEST}, "", f"chorus-operator@{DIGEST}"),
        ({"tag": "3f9c", "digest": DIGEST}, "", f"chorus-operator:3f9c@{DIGEST}"),
        ({"name": "ml/op"}, "registry.example:5000", "registry.example:5000/ml/op:0.1.0"),
        ({"registry": "own.example/x"}, "registry.example", "own.example/x/chorus-operator:0.1.0"),
    ],
)
def test_images_are_put_together(helm4: Helm, image: dict[str, str], registry: str, expected: str) -> None:
    trainer = {key: value.replace("op", "tr") if key == "name" else value for key, value in image.items()}
    values = {"global": {"imageRegistry": registry}, "operator": {"image": image}, "trainer": {"image": trainer}}
    made = helm4.template(values, hooks=True)
    assert operator_container(made)["image"] == environment(made)["CHORUS_OPERATOR_IMAGE"] == expected
    other = expected.replace("chorus-operator", "chorus-trainer").replace("ml/op", "ml/tr")
    assert environment(made)["CHORUS_TRAINER_IMAGE"] == other
    assert only(made, "Pod")["spec"]["containers"][0]["image"] == other


def test_pull_secrets_reach_the_operator_and_the_test(helm4: Helm) -> None:
    made = helm4.template({"global": {"imagePullSecrets": [{"name": "mine"}]}}, hooks=True)
    assert operator_pod(made)["spec"]["imagePullSecrets"] == [{"name": "mine"}]
    assert only(made, "Pod")["spec"]["imagePullSecrets"] == [{"name": "mine"}]
    assert '"imagePullSecrets":[{"name":"mine"}]' in str(only(made, "Pod")["spec"]["containers"][0]["env"])


PLACEMENT: Manifest = {
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]}}},
    "priorityClassName": "system-cluster-critical",
}  # fmt: skip


@pytest.mark.parametrize("key", PLACEMENT)
def test_placement_reaches_the_pod(helm4: Helm, key: str) -> None:
    assert key not in operator_pod(helm4.template())["spec"]
    assert operator_pod(helm4.template({"operator": {key: PLACEMENT[key]}}))["spec"][key] == PLACEMENT[key]


def test_spreading_counts_the_operators_pods_unless_told_whom(helm4: Helm) -> None:
    spread = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
    chosen = {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
    values = {"operator": {"topologySpreadConstraints": [spread, spread | {"labelSelector": chosen}]}}
    made = operator_pod(helm4.template(values))
    first, second = made["spec"]["topologySpreadConstraints"]
    assert first["labelSelector"]["matchLabels"].items() <= made["metadata"]["labels"].items()
    assert second == spread | {"labelSelector": chosen}


def test_variables_labels_annotations_and_resources_are_added(helm4: Helm) -> None:
    operator = {
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example"}],
        "podLabels": {"sidecar": "no"},
        "podAnnotations": {"why": "because"},
        "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
        "logLevel": "debug",
        "logFormat": "console",
        "image": {"pullPolicy": "Always"},
    }
    made = helm4.template({"operator": operator})
    variables = environment(made)
    assert variables["HTTPS_PROXY"] == "http://proxy.example"
    assert (variables["CHORUS_LOG_LEVEL"], variables["CHORUS_LOG_FORMAT"]) == ("debug", "console")
    metadata = operator_pod(made)["metadata"]
    assert metadata["labels"]["sidecar"] == "no"
    assert metadata["annotations"] == {"why": "because"}
    container = operator_container(made)
    assert container["resources"] == {
        "requests": {"cpu": "1", "memory": "128Mi", "ephemeral-storage": "64Mi"},
        "limits": {"memory": "1Gi", "ephemeral-storage": "256Mi"},
    }
    assert container["imagePullPolicy"] == "Always"


@pytest.mark.parametrize(
    "resources",
    [
        {"limits": {"cpu": "1"}},
        {"requests": {"memory": "512Mi"}},
        {"requests": {"cpu": "50m"}, "limits": {"cpu": "1", "memory": "2Gi", "ephemeral-storage": "4Gi"}},
    ],
)
def test_resources_of_jobs_reach_the_operator_as_it_reads_them(helm: Helm, resources: Manifest) -> None:
    variables = environment(helm.template({"jobResources": resources})).items()
    told = {name: value for name, value in variables if value is not None}
    assert read_settings(told | POD).job_resources == Resources.model_validate(resources)


def test_without_resources_of_jobs_the_operator_is_told_none(helm4: Helm) -> None:
    assert "CHORUS_JOB_RESOURCES" not in environment(helm4.template())


def test_a_budget_is_made_when_asked_for(helm4: Helm) -> None:
    assert not of_kind(helm4.template(), "PodDisruptionBudget")
    made = helm4.template({"operator": {"replicas": 2, "podDisruptionBudget": {"enabled": True}}})
    assert only(made, "Deployment")["spec"]["replicas"] == 2
    spec = only(made, "PodDisruptionBudget")["spec"]
    assert spec["maxUnavailable"] == 1
    assert spec["selector"]["matchLabels"].items() <= operator_pod(made)["metadata"]["labels"].items()


def test_an_account_of_ones_own_is_used(helm4: Helm) -> None:
    made = helm4.template({"serviceAccount": {"create": False, "name": "mine"}})
    assert not of_kind(made, "ServiceAccount")
    assert operator_pod(made)["spec"]["serviceAccountName"] == "mine"
    subjects = [
        subject["name"] for kind in ("ClusterRoleBinding", "RoleBinding") for one in of_kind(made, kind)
        for subject in one["subjects"]
    ]  # fmt: skip
    assert subjects == ["mine"] * 3
    named = helm4.template({"serviceAccount": {"name": "ours", "annotations": {"a": "b"}}})
    assert only(named, "ServiceAccount")["metadata"]["annotations"] == {"a": "b"}
    assert operator_pod(named)["spec"]["serviceAccountName"] == "ours"


class TestAdmissionPolicy:
    """The policies that bound the operator's account."""

    def test_they_are_about_the_account_that_the_operator_has(self, helm4: Helm) -> None:
        made = helm4.template({"serviceAccount": {"name": "ours"}}, release="ml", namespace="elsewhere")
        policies, bindings = (of_kind(made, f"ValidatingAdmissionPolicy{kind}") for kind in ("", "Binding"))
        for policy in policies:
            [condition] = policy["spec"]["matchConditions"]
            assert condition["expression"] == "request.userInfo.username == 'system:serviceaccount:elsewhere:ours'"
        expected = {"ml-chorus-operator-objects", "ml-chorus-operator-jobs", "ml-chorus-operator-services"}
        assert {policy["metadata"]["name"] for policy in policies} == expected
        assert {binding["spec"]["policyName"] for binding in bindings} == expected

    @pytest.mark.parametrize(
        "values", [{"admissionPolicy": {"enabled": False}}, {"rbac": {"scope": "Namespaces"}}], ids=["off", "roles"]
    )
    def test_there_are_none_where_they_are_not_wanted(self, helm4: Helm, values: Manifest) -> None:
        assert not [one for one in helm4.template(values) if one["kind"].startswith("ValidatingAdmissionPolicy")]

    def test_there_are_none_where_the_api_server_does_not_serve_them(self, helm4: Helm) -> None:
        words = ("template", "chorus", str(CHART), "--kube-version", "1.36.0", "--api-versions", "v1/Pod")
        served = ("--api-versions", "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy")
        assert "kind: ValidatingAdmissionPolicy" not in helm4.run(*words)
        assert "kind: ValidatingAdmissionPolicy" in helm4.run(*words, *served)


class TestNetworkPolicy:
    def test_there_is_none_by_default(self, helm4: Helm) -> None:
        assert not of_kind(helm4.template(), "NetworkPolicy")

    def test_it_refuses_all_but_what_the_operator_needs(self, helm4: Helm) -> None:
        made = helm4.template({"networkPolicy": {"enabled": True}})
        spec = only(made, "NetworkPolicy")["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert spec["podSelector"]["matchLabels"].items() <= operator_pod(made)["metadata"]["labels"].items()
        ports = {port["name"] for port in operator_container(made)["ports"]}
        everywhere = [{"namespaceSelector": {}}]
        assert spec["ingress"] == [
            {"from": everywhere, "ports": [{"port": "messages", "protocol": "TCP"}]},
            {"from": everywhere, "ports": [{"port": "probes", "protocol": "TCP"}]},
        ]
        assert {"messages", "probes"} == ports
        assert spec["egress"] == [
            {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
            {"ports": [{"port": 443, "protocol": "TCP"}, {"port": 6443, "protocol": "TCP"}]},
        ]

    def test_the_api_server_the_scraper_and_further_rules_can_be_named(self, helm4: Helm) -> None:
        policy = {
            "enabled": True,
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "watch"}}}],
            "apiServer": {"cidrs": ["10.0.0.1/32", "fd00::1/128"], "ports": [6443]},
            "extraIngress": [{"from": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}],
            "extraEgress": [{"ports": [{"port": 3128}]}],
        }
        spec = only(helm4.template({"networkPolicy": policy}), "NetworkPolicy")["spec"]
        assert spec["ingress"][1]["from"] == policy["metricsFrom"]
        assert spec["ingress"][2:] == policy["extraIngress"]
        to = [{"ipBlock": {"cidr": "10.0.0.1/32"}}, {"ipBlock": {"cidr": "fd00::1/128"}}]
        assert spec["egress"][1] == {"ports": [{"port": 6443, "protocol": "TCP"}], "to": to}
        assert spec["egress"][2:] == policy["extraEgress"]

    def test_metrics_can_be_closed_to_all(self, helm4: Helm) -> None:
        spec = only(helm4.template({"networkPolicy": {"enabled": True, "metricsFrom": []}}), "NetworkPolicy")["spec"]
        assert [rule["ports"][0]["port"] for rule in spec["ingress"]] == ["messages"]


class TestMonitoring:
    def test_there_is_none_by_default(self, helm4: Helm) -> None:
        made = helm4.template()
        assert not [one for one in made if one["kind"] in {"ServiceMonitor", "PrometheusRule", "ConfigMap"}]

    def test_a_monitor_finds_the_port_of_the_service(self, helm4: Helm) -> None:
        values = {"monitoring": {"serviceMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prom"}}}}
        made = helm4.template(values)
        monitor, service = only(made, "ServiceMonitor"), only(made, "Service")
        assert monitor["metadata"]["labels"]["release"] == "prom"
        spec = monitor["spec"]
        assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert spec["namespaceSelector"]["matchNames"] == [service["metadata"]["namespace"]]
        [endpoint] = spec["endpoints"]
        assert (endpoint["path"], endpoint["interval"]) == ("/metrics", "15s")
        [port] = [port for port in service["spec"]["ports"] if port["name"] == endpoint["port"]]
        assert port["targetPort"] in {port["name"] for port in operator_container(made)["ports"]}

    @pytest.mark.parametrize(
        ("switch", "file", "kind"),
        [
            ("prometheusRule", "prometheus-rules.yaml", "PrometheusRule"),
            ("grafanaDashboard", "dashboard.json", "ConfigMap"),
        ],
    )
    def test_rules_and_dashboard_are_the_files_of_the_chart(
        self, helm4: Helm, switch: str, file: str, kind: str
    ) -> None:
        import json

        import yaml

        path = CHART / "files" / file
        made = helm4.template({"monitoring": {switch: {"enabled": True, "labels": {"a": "b"}}}})
        found = only(made, kind)
        assert found["metadata"]["labels"]["a"] == "b"
        text = path.read_text(encoding="utf-8")
        if kind == "ConfigMap":
            assert json.loads(found["data"]["chorus.json"]) == json.loads(text)
        else:
            assert found["spec"]["groups"] == yaml.safe_load(text)["groups"]

    def test_runbooks_are_where_the_pages_are_served(self, helm4: Helm) -> None:
        rule = {"enabled": True, "runbookBase": "https://pages.example/chorus/"}
        [first, *_] = only(helm4.template({"monitoring": {"prometheusRule": rule}}), "PrometheusRule")["spec"]["groups"]
        url = first["rules"][0]["annotations"]["runbook_url"]
        assert url == "https://pages.example/chorus/monitoring.md#chorusoperatordown"


def test_further_objects_are_rendered_too(helm4: Helm) -> None:
    objects: list[Any] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}, "data": {"a": "b"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other"}},
    ]
    made = helm4.template({"extraObjects": objects})
    assert only(made, "ConfigMap", "chorus-more")["data"] == {"a": "b"}
    assert only(made, "Secret", "other")


def test_the_test_can_be_left_out(helm4: Helm) -> None:
    assert helm4.template({"test": {"enabled": False}}, hooks=True) == helm4.template()


def test_the_test_goes_where_it_is_told(helm4: Helm) -> None:
    toleration = {"key": "gpu", "operator": "Exists"}
    test = {
        "nodeSelector": {"cpu": "yes"},
        "tolerations": [toleration],
        "storageClassName": "fast",
        "storageSize": "2Gi",
        "deadlineSeconds": 60,
    }
    spec = only(helm4.template({"test": test}, hooks=True), "Pod")["spec"]
    assert (spec["nodeSelector"], spec["tolerations"]) == ({"cpu": "yes"}, [toleration])
    [claim] = [
        volume["ephemeral"]["volumeClaimTemplate"]["spec"] for volume in spec["volumes"] if "ephemeral" in volume
    ]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("fast", "2Gi")
    told = str(spec["containers"][0]["env"])
    assert '"nodeSelector":{"cpu":"yes"}' in told
    assert '"seconds":60' in told


def test_namespaces_without_the_scope_are_refused(helm: Helm) -> None:
    with pytest.raises(HelmFailed, match=r"set rbac\.scope to Namespaces"):
        helm.template({"rbac": {"namespaces": ["a"]}})
