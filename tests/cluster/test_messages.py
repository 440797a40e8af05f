"""Who may say what, against the real Service: every message here comes over the cluster's network and is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from chorus_api.contract import CA_CONFIG_MAP, CA_KEY, MAX_BODY_BYTES, RUN_SERVICE_ACCOUNT
from cluster_builders import claim_project, lora_plugin
from harness.client import Manifest
from harness.cluster import Cluster, Place
from harness.hands import POD, lay_hands
from harness.killer import Killer
from message_builders import message

URL = "https://chorus-operator.chorus-system.svc:8443/v1/messages"
SECONDS = 300
MINE, OTHER = "talk-mine-1", "talk-other-1"

SEND = """
import httpx, json, ssl, sys
given = json.load(sys.stdin)
context = ssl.create_default_context(cadata=given["ca"])
headers = {"content-type": "application/cloudevents+json"}
with httpx.Client(verify=context, timeout=30, trust_env=False) as client:
    answers = {}
    for name, (token, body) in given["messages"].items():
        authorization = {"authorization": f"Bearer {token}"} if token else {}
        response = client.post(given["url"], content=body.encode(), headers=headers | authorization)
        answers[name] = [response.status_code, response.json().get("cause") if response.content else None]
print(json.dumps(answers))
"""

REFUSED = {
    "no token": (401, "noToken"),
    "a forged token": (401, "badToken"),
    "a token for another audience": (401, "badToken"),
    "a token that no pod is bound to": (403, "notAPod"),
    "a pod that is none of ours": (403, "wrongPod"),
    "another run's pod": (403, "wrongRun"),
    "an attempt that is over": (403, "wrongAttempt"),
    "an attempt that the pod is not": (403, "wrongAttempt"),
    "another Project's number": (403, "wrongIds"),
    "an unknown type": (422, "unknownType"),
    "no message at all": (422, "malformed"),
    "a loss that is no number": (422, "malformed"),
    "a body over 64 KiB": (413, "tooLarge"),
}


@dataclass(frozen=True)
class Talk:
    """What was answered to each message, and how the two runs were before and after."""

    answers: Mapping[str, tuple[int, str | None]]
    before: Mapping[str, Manifest]
    after: Mapping[str, Manifest]


@dataclass
class Mail:
    """Messages of one pod."""

    ids: dict[str, int]
    run: Manifest
    sent: dict[str, tuple[str, str]] = field(default_factory=dict)

    def add(self, name: str, token: str, kind: str = "MODEL_NAME", *, attempt: int = 2, **changes: Any) -> None:
        """Say, with a token, that this run has its model."""
        data = {"model_name": "forged"} if kind == "MODEL_NAME" else {}
        body = message(
            kind,
            subject=changes.pop("subject", self.run["metadata"]["uid"]),
            attempt=attempt,
            sequence=10_000,
            ids=changes.pop("ids", self.ids),
            **(data | changes),
        )
        self.sent[name] = (token, body.decode())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def talk(cluster: Cluster, killer: Killer) -> AsyncIterator[Talk]:
    async with Place.make(cluster.api, "talk") as place:
        await lay_hands(place, image=cluster.operator_image, models=cluster.models)
        await place.apply(
            lora_plugin("endless", lora={"epochs": 1000, "batchSize": 1}),
            claim_project(
                "talk", plugins=tuple({"name": n, "pluginRef": {"name": "endless"}} for n in ("mine", "other"))
            ),
        )
        old = await place.pod_of(MINE, seconds=SECONDS)
        assert any("chorus_trainer" in killed for killed in await killer.kill(old))
        pods = {MINE: await place.pod_of(MINE, attempt=2, seconds=SECONDS), OTHER: await place.pod_of(OTHER)}
        before = {
            run: await place.wait("TrainingRun", run, phase="TRAINING", where=reports, seconds=SECONDS) for run in pods
        }
        mail = await letters(place, old=old, pod=pods[MINE], other=pods[OTHER], run=before[MINE])
        stored = await place.api.get("ConfigMap", CA_CONFIG_MAP, namespace=place.namespace)
        given = {"url": URL, "ca": stored["data"][CA_KEY], "messages": mail.sent}
        answers = await place.python(POD, SEND, given=given, seconds=120)
        after = {run: await place.api.get("TrainingRun", run, namespace=place.namespace) for run in pods}
        yield Talk({name: tuple(answer) for name, answer in answers.items()}, before, after)


async def letters(place: Place, *, old: Manifest, pod: Manifest, other: Manifest, run: Manifest) -> Mail:
    """One message for each name of REFUSED, and two that are taken."""
    numbers = pod["metadata"]["annotations"]
    ids = {name: int(numbers[f"chorus.dev/{name.replace('_', '-')}"]) for name in ("project_id", "plugin_id")}
    mail = Mail(ids, run)
    own = await token_of(place, pod)
    mail.add("no token", "")
    mail.add("a forged token", forged(own))
    mail.add("a token for another audience", await token_of(place, pod, audience="vault"))
    mail.add("a token that no pod is bound to", await token_of(place, None))
    hands = await place.api.get("Pod", POD, namespace=place.namespace)
    mail.add("a pod that is none of ours", await token_of(place, hands, account="default"))
    mail.add("another run's pod", await token_of(place, other), attempt=1)
    mail.add("an attempt that is over", await token_of(place, old), attempt=1)
    mail.add("an attempt that the pod is not", own, attempt=1)
    mail.add("another Project's number", own, ids=ids | {"project_id": ids["project_id"] + 1})
    mail.add("an unknown type", own, "SELF_DESTRUCT")
    mail.sent["no message at all"] = (own, "{}")
    mail.add("a loss that is no number", own, metrics={"final_loss": float("nan")})
    mail.add("a body over 64 KiB", own, "ERROR_REPORT", detail="x" * MAX_BODY_BYTES)
    mail.add("a repetition", own, "TRAINING_START")
    return mail


async def token_of(
    place: Place, pod: Manifest | None, *, audience: str = "chorus", account: str = RUN_SERVICE_ACCOUNT
) -> str:
    """A token of a service account for an audience, bound to a pod as the kubelet would have it bound."""
    spec: Manifest = {"audiences": [audience], "expirationSeconds": 600}
    if pod is not None:
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        spec["boundObjectRef"] = bound
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec}
    path = f"/api/v1/namespaces/{place.namespace}/serviceaccounts/{account}/token"
    token: str = (await place.api.request("POST", path, body=body))["status"]["token"]
    return token


def forged(token: str) -> str:
    """The token with another account in it, under the old signature."""
    head, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["sub"] = "system:serviceaccount:kube-system:chorus-run"
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"{head}.{changed}.{signature}"


def reports(run: Manifest) -> bool:
    status = run["status"]
    return bool(status.get("report", {}).get("attempt") == status["attempts"]["current"])


@pytest.mark.parametrize("what", REFUSED)
async def test_a_message_is_refused_for(talk: Talk, what: str) -> None:
    assert talk.answers[what] == REFUSED[what]


async def test_a_message_of_the_right_pod_that_says_nothing_new_is_acknowledged(talk: Talk) -> None:
    assert talk.answers["a repetition"] == (204, None)


async def test_refused_messages_leave_no_trace_in_status(talk: Talk) -> None:
    for run, before in talk.before.items():
        after = talk.after[run]
        assert after["status"]["phase"] == "TRAINING"
        assert after["status"]["report"] == before["status"]["report"]
        assert after["status"]["attempts"] == before["status"]["attempts"]


async def test_a_killed_training_is_tried_again_as_the_infrastructures_fault(talk: Talk) -> None:
    run = talk.after[MINE]
    assert run["status"]["attempts"] == {"current": 2, "user": 0, "infrastructure": 1, "disruption": 0}
    assert (run["status"]["failure"]["reason"], run["status"]["failure"]["exitCode"]) == ("Killed", 137)
