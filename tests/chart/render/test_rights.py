"""The chart's roles: those of the plain manifests, or the same in some namespaces alone."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from harness.binaries import REPOSITORY
from harness.client import Manifest
from harness.helm import NAMESPACE, Helm, environment, of_kind, only

Right = tuple[str, str, str, str]


def rights(role: Manifest) -> set[Right]:
    """Group, resource, name and verb of everything that a role allows."""
    return {
        (group, resource, name, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


@pytest.fixture(scope="module")
def plain() -> dict[str, set[Right]]:
    text = (REPOSITORY / "deploy" / "rbac.yaml").read_text(encoding="utf-8")
    roles = [one for one in yaml.safe_load_all(text) if one["kind"] in {"ClusterRole", "Role"}]
    named = {one["metadata"]["name"]: rights(one) for one in roles if one["metadata"].get("namespace") == "default"}
    return named | {one["kind"]: rights(one) for one in roles if one["metadata"]["name"] == "chorus-operator"}


def test_in_the_whole_cluster_the_rights_are_those_of_the_plain_manifests(
    helm: Helm, plain: dict[str, set[Right]]
) -> None:
    made = helm.template()
    assert rights(only(made, "ClusterRole", "chorus-operator")) == plain["ClusterRole"]
    assert rights(only(made, "Role", "chorus-operator")) == plain["Role"]
    api_server = only(made, "Role", "chorus-operator-api-server")
    assert rights(api_server) == plain["chorus-operator-api-server"]
    assert api_server["metadata"]["namespace"] == "default"
    bound = only(made, "RoleBinding", "chorus-operator-api-server")
    assert (bound["metadata"]["namespace"], bound["roleRef"]["name"]) == ("default", "chorus-operator-api-server")
    assert bound["subjects"] == [{"kind": "ServiceAccount", "name": "chorus-operator", "namespace": NAMESPACE}]
    [binding] = of_kind(made, "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == "chorus-operator"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "chorus-operator", "namespace": NAMESPACE}]
    assert "CHORUS_WATCH_NAMESPACES" not in environment(made)
    assert "CHORUS_TOKEN_CHECK" not in environment(made)


def namespaced(*namespaces: str, **more: Any) -> Manifest:
    return {"rbac": {"scope": "Namespaces", "namespaces": list(namespaces)} | more}


def test_in_some_namespaces_the_operator_is_bound_to_roles_alone(helm: Helm, plain: dict[str, set[Right]]) -> None:
    made = helm.template(namespaced("b", "a"))
    assert not of_kind(made, "ClusterRoleBinding")
    account = {"kind": "ServiceAccount", "name": "chorus-operator", "namespace": NAMESPACE}
    bound = {}
    for binding in of_kind(made, "RoleBinding"):
        assert binding["roleRef"]["kind"] == "Role"
        assert binding["subjects"] == [account]
        where = binding["metadata"]["namespace"]
        [role] = [
            role for role in of_kind(made, "Role")
            if (role["metadata"]["namespace"], role["metadata"]["name"]) == (where, binding["roleRef"]["name"])
        ]  # fmt: skip
        bound[where] = rights(role)
    token_review = ("authentication.k8s.io", "tokenreviews", "", "create")
    work = plain["ClusterRole"] - {token_review}
    assert token_review in plain["ClusterRole"]
    assert bound == {"a": work, "b": work, NAMESPACE: plain["Role"]}


def test_the_operator_is_told_its_namespaces_and_to_do_without_token_reviews(helm4: Helm) -> None:
    variables = environment(helm4.template(namespaced("b", "a", "b")))
    assert variables["CHORUS_WATCH_NAMESPACES"] == "a,b"
    assert variables["CHORUS_TOKEN_CHECK"] == "PublishedKeys"


def test_without_a_list_the_releases_own_namespace_is_served(helm4: Helm) -> None:
    made = helm4.template(namespaced())
    assert environment(made)["CHORUS_WATCH_NAMESPACES"] == NAMESPACE
    assert {role["metadata"]["namespace"] for role in of_kind(made, "Role")} == {NAMESPACE}
    assert len(of_kind(made, "RoleBinding")) == 2


def test_no_cluster_scoped_object_is_left_when_all_switches_are_off(helm4: Helm) -> None:
    made = helm4.template(namespaced("a", userRoles=False) | {"crds": {"enabled": False}}, hooks=True)
    assert all("namespace" in manifest["metadata"] for manifest in made)


def test_rights_can_be_left_to_others(helm4: Helm) -> None:
    made = helm4.template({"rbac": {"create": False, "userRoles": False}})
    assert not [one for one in made if "Role" in one["kind"]]


def test_user_roles_are_those_of_the_plain_manifests_and_bound_to_nobody(helm4: Helm) -> None:
    made = helm4.template(namespaced("a"))
    text = (REPOSITORY / "deploy" / "user-roles.yaml").read_text(encoding="utf-8")
    for plain_role in yaml.safe_load_all(text):
        role = only(made, "ClusterRole", plain_role["metadata"]["name"])
        assert rights(role) == rights(plain_role)
        assert plain_role["metadata"]["labels"].items() <= role["metadata"]["labels"].items()
    assert len(of_kind(made, "ClusterRole")) == 2


@pytest.mark.parametrize(
    ("namespaces", "where"), [((), NAMESPACE), (("z", NAMESPACE), NAMESPACE), (("z", "team"), "team")]
)
def test_the_test_trains_in_a_namespace_that_is_served(helm4: Helm, namespaces: tuple[str, ...], where: str) -> None:
    hooks = [one for one in helm4.template(namespaced(*namespaces), hooks=True) if one["metadata"].get("annotations")]
    hooks = [one for one in hooks if "helm.sh/hook" in one["metadata"]["annotations"]]
    assert {one["kind"] for one in hooks} == {"ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Pod"}
    assert {one["metadata"]["namespace"] for one in hooks} == {where}
    assert f'"namespace":"{where}"' in str(only(hooks, "Pod")["spec"]["containers"][0]["env"])


def test_the_test_may_only_do_what_a_user_who_tries_chorus_needs(helm4: Helm) -> None:
    made = helm4.template(hooks=True)
    role = only(made, "Role", "chorus-test")
    assert {verb for _, resource, _, verb in rights(role) if resource in {"projects", "plugins"}} == {
        "get", "create", "delete",
    }  # fmt: skip
    assert "secrets" not in str(role["rules"])
    assert "*" not in str(role["rules"])
