"""What kubelet, Job controller and API server write when something happens to a pod of a World, in their own words.

Nothing here lets the operator look: `world.settle()` does, or `world.later()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from chorus_kube.resources import EVENTS
from world import NAMESPACE, World, iso

Manifest = dict[str, Any]
GRACE_SECONDS = 120
EVICTION = {"reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}
NEVER_STARTED = "1970-01-01T00:00:00Z"
"""When a container has started that the runtime could not start, as the kubelet writes it."""


def the_pod(world: World, job: str) -> Manifest:
    """The one pod of a Job."""
    (pod,) = world.pods_of(job)
    return pod


def container_ends(
    world: World, job: str, exit_code: int, *, reason: str = "", message: str = "", log: str | None = None
) -> None:
    """The kubelet writes how the main container ended, and with it the pod."""
    pod = the_pod(world, job)
    (container,) = pod["spec"]["containers"]
    own = next(iter(pod["status"].get("containerStatuses", [])), {})
    started = own.get("state", {}).get("running", {}).get("startedAt", iso(world.now))
    ended = {
        "exitCode": exit_code,
        "reason": reason or ("Error" if exit_code else "Completed"),
        "message": message,
        "startedAt": NEVER_STARTED if reason == "StartError" else started,
        "finishedAt": iso(world.now),
    }
    pod["status"]["containerStatuses"] = [{"name": container["name"], "state": {"terminated": ended}}]
    pod["status"]["phase"] = "Failed" if exit_code else "Succeeded"
    world.kube.put(pod)
    if log is not None:
        world.kube.logs[pod["metadata"]["name"]] = log


def init_container_ends(world: World, job: str, container: str, exit_code: int, message: str) -> None:
    """The kubelet writes how an init container ended, and with it the pod."""
    pod = the_pod(world, job)
    ended = {"exitCode": exit_code, "reason": "Error", "message": message, "startedAt": iso(world.now)}
    pod["status"] = {
        "phase": "Failed",
        "initContainerStatuses": [{"name": container, "started": False, "state": {"terminated": ended}}],
    }
    world.kube.put(pod)


def is_told_to_end(world: World, job: str) -> None:
    """The API server has a pod end: somebody deleted it."""
    pod = the_pod(world, job)
    pod["metadata"]["deletionTimestamp"] = iso(world.now + timedelta(seconds=GRACE_SECONDS))
    pod["metadata"]["deletionGracePeriodSeconds"] = GRACE_SECONDS
    world.kube.put(pod)


def is_disrupted(world: World, job: str, why: Mapping[str, str] = EVICTION) -> None:
    """The API server, the scheduler or a controller says why a pod must go, and tells it to end."""
    pod = the_pod(world, job)
    condition = {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": iso(world.now), **why}
    pod["status"].setdefault("conditions", []).append(condition)
    world.kube.put(pod)
    is_told_to_end(world, job)


def is_evicted(world: World, job: str, message: str, *, by_node: bool = False) -> None:
    """The kubelet evicts a pod: it kills its containers, and says why. `by_node`: its node was short of something."""
    container_ends(world, job, 137)
    pod = the_pod(world, job)
    if by_node:
        why = {"reason": "TerminationByKubelet", "message": message}
        pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True", **why}]
    pod["status"] |= {"phase": "Failed", "reason": "Evicted", "message": message}
    world.kube.put(pod)


def is_gone(world: World, job: str) -> None:
    """The API server has removed the pods of a Job."""
    for pod in world.pods_of(job):
        del world.kube.objects["Pod", NAMESPACE, pod["metadata"]["name"]]


def job_is_judged(world: World, job: str) -> None:
    """The Job controller completes or fails a Job for how its pod ended, by its podFailurePolicy."""
    stored, pod = world.job(job), the_pod(world, job)
    assert stored is not None
    if pod["status"]["phase"] == "Succeeded":
        end = {"type": "Complete", "reason": "CompletionsReached"}
    else:
        end = {"type": "Failed", **_judgement(stored["spec"]["podFailurePolicy"]["rules"], pod)}
    world.kube.put({**stored, "status": {"conditions": [{**end, "status": "True"}]}})


def _judgement(rules: list[Manifest], pod: Manifest) -> dict[str, str]:
    name = f"{NAMESPACE}/{pod['metadata']['name']}"
    conditions = {each["type"] for each in pod["status"].get("conditions", ())}
    for index, rule in enumerate(rules):
        if rule["action"] != "FailJob":
            continue
        for pattern in rule.get("onPodConditions", ()):
            if pattern["type"] in conditions:
                text = f"Pod {name} has condition {pattern['type']} matching FailJob rule at index {index}"
                return {"reason": "PodFailurePolicy", "message": text}
        for container, code in _exit_codes(pod):
            if _fits(rule.get("onExitCodes"), container, code):
                text = f"Container {container} for pod {name} failed with exit code {code} matching FailJob rule at "
                return {"reason": "PodFailurePolicy", "message": f"{text}index {index}"}
    return {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}


def _exit_codes(pod: Manifest) -> list[tuple[str, int]]:
    status = pod["status"]
    all_of_them = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    ended = [(each["name"], each["state"]["terminated"]) for each in all_of_them if "terminated" in each["state"]]
    return [(name, terminated["exitCode"]) for name, terminated in ended if terminated["exitCode"]]


def _fits(rule: Manifest | None, container: str, code: int) -> bool:
    if rule is None or rule.get("containerName") not in (None, container):
        return False
    return (code in rule["values"]) == (rule["operator"] == "In")


def event_about(world: World, about: Mapping[str, Any], reason: str, message: str) -> None:
    """Somebody of the cluster says something about an object."""
    metadata = about["metadata"]
    world.kube.put(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{len(world.kube.all(EVENTS))}", "namespace": NAMESPACE},
            "involvedObject": {"kind": about["kind"], "name": metadata["name"], "uid": metadata.get("uid", "")},
            "type": "Warning",
            "reason": reason,
            "message": message,
            "lastTimestamp": iso(world.now),
        }
    )
