"""A stolen token of the operator's account: what it is kept from beyond the rights that the account has."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from builders import LABELLED, make_config_map, make_pod, make_run
from harness.apiserver import ControlPlane
from harness.client import Api, ApiError, Manifest, eventually
from operator_worlds import children

Case = tuple[Callable[[], Manifest], str]
"""Makes an object that is refused; and a part of what is said of it."""
NO_RIGHTS = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
_numbers = itertools.count(1)


def only(kind: str) -> Manifest:
    """An object of a kind, as the operator makes it."""
    return copy.deepcopy(next(each for each in children() if each["kind"] == kind))


def with_pod(**changes: Any) -> Manifest:
    job = only("Job")
    job["spec"]["template"]["spec"] |= changes
    return job


def with_pod_security(**changes: Any) -> Manifest:
    context = only("Job")["spec"]["template"]["spec"]["securityContext"] | changes
    return with_pod(securityContext={key: value for key, value in context.items() if value is not None})


def with_volume(source: Manifest) -> Manifest:
    return with_pod(volumes=[*only("Job")["spec"]["template"]["spec"]["volumes"], {"name": "more", **source}])


def with_container(**changes: Any) -> Manifest:
    job = only("Job")
    job["spec"]["template"]["spec"]["containers"][0] |= changes
    return job


def with_security(**changes: Any) -> Manifest:
    return with_container(securityContext=NO_RIGHTS | changes)


def with_init(**changes: Any) -> Manifest:
    return with_pod(initContainers=[{"name": "first", "image": "a"} | changes])


def bare_pods() -> Manifest:
    job = only("Job")
    job["spec"]["template"]["metadata"]["labels"] = {}
    return job


def with_service(**spec: Any) -> Manifest:
    made = only("Service")
    made["spec"] |= spec
    return made


def unlabelled(manifest: Manifest) -> Manifest:
    """With another label in place of the operator's: a Job without any would take those of its pods."""
    return manifest | {"metadata": manifest["metadata"] | {"labels": {"app": "theirs"}}}


def account() -> Manifest:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "labels": LABELLED}}


def mine() -> Manifest:
    return make_config_map("a", data={"a": "b"})


API_TOKEN = {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
ADDING = {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
BY_POLICY: dict[str, Callable[[], Manifest]] = {
    "objects": mine,
    "jobs": lambda: with_pod(hostNetwork=True),
    "services": lambda: with_service(clusterIP=""),
}
"""One object for each policy that this policy alone refuses."""
REFUSED: dict[str, Case] = {
    "a ConfigMap without the label": (mine, "with the label"),
    "a claim without the label": (lambda: unlabelled(only("PersistentVolumeClaim")), "with the label"),
    "a Job without the label": (lambda: unlabelled(only("Job")), "with the label"),
    "a Service without the label": (lambda: unlabelled(only("Service")), "with the label"),
    "a run without the label": (lambda: make_run("a"), "with the label"),
    "another service account": (account, "no service account but chorus-run"),
    "pods without the label": (bare_pods, "need the label"),
    "a privileged container": (
        lambda: with_security(privileged=True, allowPrivilegeEscalation=True), "no privileges",
    ),
    "a privileged init container": (lambda: with_init(securityContext={"privileged": True}), "no privileges"),
    "an init container that says nothing of its rights": (with_init, "no privileges"),
    "escalation": (lambda: with_security(allowPrivilegeEscalation=True), "no privileges"),
    "a capability": (lambda: with_security(capabilities=ADDING), "no capabilities"),
    "capabilities as they are": (lambda: with_security(capabilities={}), "no capabilities"),
    "a root file system to write to": (lambda: with_security(readOnlyRootFilesystem=False), "read-only root"),
    "root by the pod": (lambda: with_pod_security(runAsNonRoot=False), "not root"),
    "uid 0 by the pod": (lambda: with_pod_security(runAsUser=0), "not root"),
    "root by the container": (lambda: with_security(runAsNonRoot=False), "set aside"),
    "uid 0 by the container": (lambda: with_security(runAsUser=0), "set aside"),
    "no seccomp profile": (lambda: with_pod_security(seccompProfile=None), "runtime's profiles"),
    "an unconfined container": (lambda: with_security(seccompProfile={"type": "Unconfined"}), "set aside"),
    "a container without AppArmor": (lambda: with_security(appArmorProfile={"type": "Unconfined"}), "set aside"),
    "a sysctl": (lambda: with_pod_security(sysctls=[{"name": "kernel.msgmax", "value": "1"}]), "profiles"),
    "the node's network": (lambda: with_pod(hostNetwork=True), "share nothing with their node"),
    "the node's processes": (lambda: with_pod(hostPID=True), "share nothing with their node"),
    "the node's memory": (lambda: with_pod(hostIPC=True), "share nothing with their node"),
    "a port of the node": (lambda: with_container(ports=[{"containerPort": 1, "hostPort": 1}]), "share nothing"),
    "a node by name": (lambda: with_pod(nodeName="control-plane"), "do not choose it by name"),
    "the node's files": (lambda: with_volume({"hostPath": {"path": "/"}}), "no volumes but"),
    "a disk over the network": (lambda: with_volume({"nfs": {"server": "a", "path": "/"}}), "no volumes but"),
    "another account for pods": (lambda: with_pod(serviceAccountName="default"), "run as chorus-run"),
    "an API token": (lambda: with_pod(automountServiceAccountToken=True), "run as chorus-run"),
    "an API token among other volumes": (lambda: with_volume(API_TOKEN), "no token but one"),
    "a probe that connects": (
        lambda: with_container(livenessProbe={"tcpSocket": {"port": 1, "host": "a"}}), "no probes",
    ),
    "a Service with an address": (lambda: with_service(clusterIP=""), "no Service but headless ones"),
    "a Service on every node": (lambda: with_service(type="NodePort", clusterIP=""), "headless"),
    "a Service in place of another name": (
        lambda: with_service(type="ExternalName", externalName="a.example", clusterIP=""), "headless",
    ),
    "a Service at an address of others": (lambda: with_service(externalIPs=["192.0.2.1"]), "headless"),
}  # fmt: skip


def named(manifest: Manifest, namespace: str) -> Manifest:
    """The manifest under a name of its own, in a namespace."""
    return manifest | {"metadata": manifest["metadata"] | {"namespace": namespace, "name": f"a-{next(_numbers)}"}}


@pytest.fixture(scope="module")
def bound(installed: ControlPlane) -> ControlPlane:
    """The control plane once the policies are in force, which they are a moment after they are made."""
    children()  # takes an event loop of its own, so before that of the tests runs
    asyncio.run(_in_force(installed))
    return installed


async def _in_force(control_plane: ControlPlane) -> None:
    async with Api(await control_plane.kubeconfig_for("chorus-operator", namespace="chorus-system")) as client:
        for policy, make in BY_POLICY.items():

            async def is_refused(make: Callable[[], Manifest] = make) -> bool:
                try:
                    await client.create(named(make(), "default"))
                except ApiError as error:
                    return "ValidatingAdmissionPolicy" in str(error)
                return False

            await eventually(is_refused, what=f"the policy chorus-operator-{policy} refuses")


@pytest.fixture
async def thief(bound: ControlPlane) -> AsyncIterator[Api]:
    """A client with the operator's own token."""
    async with Api(await bound.kubeconfig_for("chorus-operator", namespace="chorus-system")) as client:
        yield client


@pytest.mark.parametrize("case", REFUSED)
async def test_a_stolen_token_of_the_operator_cannot_make_what_the_operator_never_makes(case: str, thief: Api) -> None:
    make, told = REFUSED[case]
    with pytest.raises(ApiError) as refused:
        await thief.create(named(make(), "default"))
    assert "ValidatingAdmissionPolicy 'chorus-operator-" in str(refused.value)
    assert told in str(refused.value)


@pytest.mark.parametrize("kind", ["ConfigMap", "Job"])
async def test_a_stolen_token_of_the_operator_can_neither_change_nor_delete_what_belongs_to_others(
    kind: str, thief: Api, api: Api, namespace: str
) -> None:
    made = await api.create(named(mine() if kind == "ConfigMap" else unlabelled(only(kind)), namespace))
    name = made["metadata"]["name"]
    change: Manifest = {"data": {"a": "c"}} if kind == "ConfigMap" else {"spec": {"suspend": True}}
    for attempt in (
        lambda: thief.patch(kind, name, change, namespace=namespace),
        lambda: thief.patch(kind, name, change | {"metadata": {"labels": LABELLED}}, namespace=namespace),
        lambda: thief.delete(kind, name, namespace=namespace),
    ):
        with pytest.raises(ApiError, match="may only"):
            await attempt()
    there = await api.get(kind, name, namespace=namespace)
    assert there["metadata"]["uid"] == made["metadata"]["uid"]
    assert not LABELLED.items() <= there["metadata"].get("labels", {}).items()


async def test_a_stolen_token_of_the_operator_cannot_delete_a_pod_of_others(
    thief: Api, api: Api, namespace: str
) -> None:
    await api.create(make_pod("theirs", namespace=namespace))
    with pytest.raises(ApiError, match="may only change and delete objects with the label"):
        await thief.delete("Pod", "theirs", namespace=namespace)


async def test_the_operator_may_make_change_and_delete_everything_that_it_makes(thief: Api, namespace: str) -> None:
    kinds = {each["kind"] for each in children()}
    assert kinds == {"ConfigMap", "Job", "PersistentVolumeClaim", "Service", "ServiceAccount", "TrainingRun"}
    for manifest in children():
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        await thief.create(manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}})
        if kind == "Job":
            await thief.patch(kind, name, {"spec": {"suspend": True}}, namespace=namespace)
        if kind in ("Job", "ConfigMap", "TrainingRun"):
            await thief.delete(kind, name, namespace=namespace)


async def test_the_operator_may_delete_runs_that_users_made(thief: Api, api: Api, namespace: str) -> None:
    await api.create(make_run("by-hand", namespace=namespace))
    await thief.delete("TrainingRun", "by-hand", namespace=namespace)


async def test_nobody_but_the_operator_is_bound_by_its_policies(thief: Api, api: Api, namespace: str) -> None:
    for make in BY_POLICY.values():
        assert await api.create(named(make(), namespace))


async def test_the_api_server_finds_no_fault_in_the_expressions_of_the_policies(bound: ControlPlane, api: Api) -> None:
    for policy in BY_POLICY:

        def is_checked(stored: Manifest) -> bool:
            return "typeChecking" in stored.get("status", {})

        found = await api.wait_for("ValidatingAdmissionPolicy", f"chorus-operator-{policy}", is_checked)
        assert found["status"]["typeChecking"] == {}, policy
