"""What the operator and users may do once `deploy/` is applied, as the API server's own authoriser says."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from builders import LABELLED, make_config_map, make_project, make_run
from harness.apiserver import ControlPlane
from harness.client import Api, ApiError, Manifest, eventually

OPERATOR = "system:serviceaccount:chorus-system:chorus-operator"
KINDS = ("projects", "plugins", "trainingruns")


async def allowed(api: Api, user: str, verb: str, resource: str, *, namespace: str, name: str = "") -> bool:
    """Ask whether `user` may do it; `resource` is `group/plural` or `plural`, with `:subresource`."""
    path, _, subresource = resource.partition(":")
    group, _, plural = path.rpartition("/")
    attributes = {
        "verb": verb,
        "group": group,
        "resource": plural,
        "subresource": subresource,
        "namespace": namespace,
        "name": name,
    }
    review: Manifest = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": attributes},
    }
    answer = await api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=review)
    return bool(answer["status"]["allowed"])


@pytest.fixture
async def operator(installed: ControlPlane) -> AsyncIterator[Api]:
    """A client with the operator's own rights."""
    async with Api(await installed.kubeconfig_for("chorus-operator", namespace="chorus-system")) as client:
        yield client


NEEDED = [
    *(("watch get", f"chorus.dev/{kind}") for kind in KINDS),
    *(("patch", f"chorus.dev/{kind}:status") for kind in KINDS),
    *(("list", f"chorus.dev/{kind}") for kind in KINDS),
    ("create delete", "chorus.dev/trainingruns"),
    ("get watch create patch delete", "batch/jobs"),
    ("get list watch delete", "pods"),
    ("get", "pods:log"),
    ("get create patch delete", "configmaps"),
    ("get list create", "persistentvolumeclaims"),
    ("get create", "services"),
    ("create", "serviceaccounts"),
    ("get", "namespaces"),
    ("create list", "events"),
    ("create", "authentication.k8s.io/tokenreviews"),
]


@pytest.mark.parametrize(("verbs", "resource"), NEEDED)
async def test_the_operator_may_do_its_work_in_every_namespace(
    verbs: str, resource: str, installed: ControlPlane, api: Api
) -> None:
    for verb in verbs.split():
        assert await allowed(api, OPERATOR, verb, resource, namespace="anywhere"), f"{verb} {resource}"


FORBIDDEN = [
    ("get list watch create update patch delete", "secrets"),
    ("list watch update", "configmaps"),
    ("create update patch", "pods"),
    ("create get", "pods:exec"),
    ("create get", "pods:attach"),
    ("create", "pods:portforward"),
    ("create", "pods:eviction"),
    ("create", "serviceaccounts:token"),
    ("get list update patch delete", "serviceaccounts"),
    ("get update patch delete watch", "events"),
    ("watch delete update patch", "persistentvolumeclaims"),
    ("list watch update patch delete", "services"),
    ("create update patch delete", "chorus.dev/projects"),
    ("create update patch delete", "chorus.dev/plugins"),
    ("list", "batch/jobs"),
    ("update patch", "chorus.dev/trainingruns"),
    ("update", "chorus.dev/trainingruns:status"),
    ("create update patch", "apps/deployments"),
    ("create bind escalate", "rbac.authorization.k8s.io/roles"),
    ("create", "rbac.authorization.k8s.io/rolebindings"),
    ("get list watch", "nodes"),
    ("list watch create update patch delete", "namespaces"),
    ("list watch", "apiextensions.k8s.io/customresourcedefinitions"),
    ("get update", "coordination.k8s.io/leases"),
    ("impersonate", "users"),
]


@pytest.mark.parametrize(("verbs", "resource"), FORBIDDEN)
async def test_the_operator_may_do_nothing_else(verbs: str, resource: str, installed: ControlPlane, api: Api) -> None:
    for verb in verbs.split():
        assert not await allowed(api, OPERATOR, verb, resource, namespace="anywhere"), f"{verb} {resource}"


async def test_in_its_own_namespace_the_operator_has_its_lease_and_its_keys_alone(
    installed: ControlPlane, api: Api
) -> None:
    own = "chorus-system"
    assert await allowed(api, OPERATOR, "get", "secrets", namespace=own, name="chorus-ca")
    assert not await allowed(api, OPERATOR, "get", "secrets", namespace=own, name="somebody-else")
    assert not await allowed(api, OPERATOR, "update", "secrets", namespace=own, name="chorus-ca")
    for verb in ("get", "update"):
        lease = "coordination.k8s.io/leases"
        assert await allowed(api, OPERATOR, verb, lease, namespace=own, name="chorus-operator")
        assert not await allowed(api, OPERATOR, verb, lease, namespace=own, name="somebody-else")
    for verb in ("list", "watch", "delete"):
        assert not await allowed(api, OPERATOR, verb, "secrets", namespace=own)


async def test_of_the_clusters_endpoints_the_operator_reads_those_of_the_api_server_alone(
    installed: ControlPlane, api: Api
) -> None:
    slices = "discovery.k8s.io/endpointslices"
    assert await allowed(api, OPERATOR, "get", slices, namespace="default", name="kubernetes")
    assert not await allowed(api, OPERATOR, "get", slices, namespace="default", name="another")
    assert not await allowed(api, OPERATOR, "get", slices, namespace="anywhere", name="kubernetes")
    for verb in ("list", "watch", "update"):
        assert not await allowed(api, OPERATOR, verb, slices, namespace="default")


async def test_children_may_block_the_deletion_of_their_owner(operator: Api, api: Api, namespace: str) -> None:
    for kind, manifest in (
        ("Project", make_project(namespace=namespace)),
        ("TrainingRun", make_run(namespace=namespace)),
    ):
        owner = await api.create(manifest)
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": kind,
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        child = make_config_map(f"of-{kind.lower()}", namespace=namespace, labels=LABELLED, ownerReferences=[reference])
        assert (await operator.create(child))["metadata"]["ownerReferences"] == [reference]
        await api.delete(kind, owner["metadata"]["name"], namespace=namespace)
        await api.wait_until_gone("ConfigMap", f"of-{kind.lower()}", namespace=namespace, seconds=20)


async def test_the_operator_writes_statuses_and_not_specs(operator: Api, api: Api, namespace: str) -> None:
    await api.create(make_run(namespace=namespace))
    patch = {"status": {"phase": "queued"}}
    written = await operator.patch("TrainingRun", "shop-t5-1", patch, namespace=namespace, subresource="status")
    assert written["status"] == {"phase": "queued"}
    with pytest.raises(ApiError, match="cannot patch resource"):
        await operator.patch("TrainingRun", "shop-t5-1", {"spec": {"cancel": True}}, namespace=namespace)


@pytest.mark.parametrize(
    ("role", "verbs", "refused"),
    [
        ("view", "get list watch", "create update patch delete"),
        ("edit", "get list watch create update patch delete deletecollection", ""),
        ("admin", "get list watch create update patch delete deletecollection", ""),
    ],
)
async def test_the_roles_of_users_hold_for_the_kinds_too(
    role: str, verbs: str, refused: str, installed: ControlPlane, api: Api, namespace: str
) -> None:
    user = f"{role}er"
    binding: Manifest = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": user, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    await api.wait_for("ClusterRole", role, lambda found: "chorus.dev" in str(found["rules"]))
    await api.create(binding)
    for kind in KINDS:
        for verb in verbs.split():
            await _until_allowed(api, user, verb, f"chorus.dev/{kind}", namespace=namespace)
        for verb in refused.split():
            assert not await allowed(api, user, verb, f"chorus.dev/{kind}", namespace=namespace)
        for verb in ("update", "patch"):
            assert not await allowed(api, user, verb, f"chorus.dev/{kind}:status", namespace=namespace)


async def _until_allowed(api: Api, user: str, verb: str, resource: str, *, namespace: str) -> None:
    async def check() -> bool:  # the authoriser learns of a new binding by a watch
        return await allowed(api, user, verb, resource, namespace=namespace)

    await eventually(check, what=f"{user} may {verb} {resource}")
