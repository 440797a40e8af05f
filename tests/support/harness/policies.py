"""Admission policies of a real cluster that refuse or change the pods of one run, as other people's webhooks do.

    async with refusing(place, run="faults-refused-1", message="images must be signed"):
        ...

A policy holds for the whole cluster and takes a moment to be heeded. It is in force when the context is entered, and
deleted at its end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from builders import make_pod
from harness.client import ApiError, Manifest, eventually
from harness.cluster import Env

API_VERSION = "admissionregistration.k8s.io/v1"
FORCE_SECONDS = 60.0


@asynccontextmanager
async def refusing(place: Env, *, run: str, message: str) -> AsyncIterator[None]:
    """Refuse the training pods of a run with these words."""
    spec = {"failurePolicy": "Fail", "validations": [{"expression": "false", "message": message}]}
    policy = _policy(place, "ValidatingAdmissionPolicy", run=run, spec=spec)
    binding = {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}

    async def is_refused() -> bool:
        try:
            await _try_a_pod(place, run)
        except ApiError as error:
            return message in str(error)
        return False

    async with _in_force(place, policy, binding):
        await eventually(is_refused, what=f"pods of {run} are refused", seconds=FORCE_SECONDS)
        yield


@asynccontextmanager
async def changing(place: Env, *, run: str, patch: str, attempt: int | None = None) -> AsyncIterator[None]:
    """Change the training pods of a run, or of one attempt of it, by a JSON patch that a CEL expression gives."""
    mutation = {"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}
    spec = {"failurePolicy": "Fail", "reinvocationPolicy": "Never", "mutations": [mutation]}
    policy = _policy(place, "MutatingAdmissionPolicy", run=run, attempt=attempt, spec=spec)

    async def is_changed() -> bool:
        made = await _try_a_pod(place, run, attempt=attempt)
        plain = await _try_a_pod(place, "somebody-else")
        return bool(_without_defaults(made) != _without_defaults(plain))

    async with _in_force(place, policy, {"policyName": policy["metadata"]["name"]}):
        await eventually(is_changed, what=f"pods of {run} are changed", seconds=FORCE_SECONDS)
        yield


@asynccontextmanager
async def _in_force(place: Env, policy: Manifest, binding: Mapping[str, Any]) -> AsyncIterator[None]:
    kind, metadata = policy["kind"], policy["metadata"]
    bound = {"apiVersion": API_VERSION, "kind": f"{kind}Binding", "metadata": metadata, "spec": dict(binding)}
    await place.api.create(policy)
    try:
        await place.api.create(bound)
        try:
            yield
        finally:
            await place.api.delete(f"{kind}Binding", metadata["name"])
    finally:
        await place.api.delete(kind, metadata["name"])


def _policy(place: Env, kind: str, *, run: str, spec: Mapping[str, Any], attempt: int | None = None) -> Manifest:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    matched = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}},
        "objectSelector": {"matchLabels": _labels(run, attempt)},
        "resourceRules": [rule],
    }
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": f"{place.namespace}-{run}"},
        "spec": {"matchConstraints": matched, **spec},
    }


def _labels(run: str, attempt: int | None) -> dict[str, str]:
    of_attempt = {} if attempt is None else {"chorus.dev/attempt": str(attempt)}
    return {"chorus.dev/run": run, "chorus.dev/role": "train", **of_attempt}


async def _try_a_pod(place: Env, run: str, *, attempt: int | None = None) -> Manifest:
    """Make a pod like those of a run, but have the API server not keep it."""
    pod = make_pod("tried", namespace=place.namespace)
    pod["metadata"]["labels"] = _labels(run, attempt)
    path = f"/api/v1/namespaces/{place.namespace}/pods"
    return await place.api.request("POST", path, body=pod, query={"dryRun": "All"})


def _without_defaults(pod: Manifest) -> Any:
    """What a policy may have changed; the volume of the service account's token has a name by chance."""
    spec = pod["spec"]
    names = [container["name"] for container in spec["containers"]]
    return names, spec.get("nodeName"), spec.get("nodeSelector")
