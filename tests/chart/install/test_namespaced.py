"""Helm 3 and a real cluster, with rights in one namespace alone: it trains there, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from builders import make_plugin, make_project
from harness.binaries import REPOSITORY
from harness.client import Api, Manifest
from harness.cluster import CommandFailed
from harness.helm import Helm
from harness.release import Release, clear, kubectl, make_namespace

TEAM, OTHER = "test-team", "test-other-team"
VALUES: Manifest = {
    "crds": {"enabled": False},
    "rbac": {"scope": "Namespaces", "userRoles": False},
    "networkPolicy": {"enabled": True},
}
ACCOUNT = f"system:serviceaccount:{TEAM}:team-chorus-operator"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def release(api: Api) -> AsyncIterator[Release]:
    await clear(api)
    for namespace in (TEAM, OTHER):
        await make_namespace(api, namespace)
    await kubectl("apply", "--server-side", "-k", str(REPOSITORY / "crds"))
    made = Release(Helm("helm3"), "team", TEAM)
    await made.install(VALUES)
    await kubectl("-n", OTHER, "apply", "-f", "-", stdin=_other_team())
    yield made
    await kubectl("delete", "namespace", TEAM, OTHER, "--ignore-not-found")
    await clear(api)


def _other_team() -> bytes:
    import json

    items = [make_plugin(namespace=OTHER), make_project(namespace=OTHER)]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode()


async def test_nothing_of_the_release_is_outside_of_its_namespace(release: Release) -> None:
    words = ("get", "clusterroles,clusterrolebindings", "-l", "app.kubernetes.io/instance=team", "-o", "name")
    assert await kubectl(*words) == ""


async def may(verb: str, resource: str, *, namespace: str) -> bool:
    words = ("auth", "can-i", verb, resource, "-n", namespace, f"--as={ACCOUNT}", "-q")
    try:
        await kubectl(*words)
    except CommandFailed:
        return False
    return True


async def test_the_operator_may_work_in_its_namespace_alone(release: Release) -> None:
    assert await may("watch", "projects.chorus.dev", namespace=TEAM)
    assert await may("create", "jobs.batch", namespace=TEAM)
    for resource in ("projects.chorus.dev", "jobs.batch", "pods"):
        assert not await may("watch", resource, namespace=OTHER)
    assert not await may("create", "tokenreviews.authentication.k8s.io", namespace=TEAM)


async def test_it_trains_without_any_cluster_role(release: Release) -> None:
    assert "files with right digests" in await release.test()


async def test_what_is_elsewhere_is_left_alone(release: Release) -> None:
    assert await kubectl("-n", OTHER, "get", "cproj", "shop", "-o", "jsonpath={.status}") == ""


async def test_helm_4_takes_over_what_helm_3_installed(release: Release) -> None:
    await release.upgrade(VALUES | {"operator": {"logLevel": "debug"}})
    await release.roll_back(1)
    newer = Release(Helm("helm4"), release.name, release.namespace)
    await newer.upgrade(VALUES | {"operator": {"replicas": 2}})
    assert await newer.revision() == 4
    words = ("-n", TEAM, "get", "deployment", "team-chorus-operator", "-o", "jsonpath={.status.readyReplicas}")
    assert await kubectl(*words) == "2"
    await newer.uninstall()
    assert await kubectl("-n", TEAM, "get", "deployments,roles,rolebindings", "-o", "name") == ""
    assert await kubectl("-n", OTHER, "get", "cproj", "-o", "name") == "project.chorus.dev/shop\n"
