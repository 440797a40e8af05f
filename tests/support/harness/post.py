"""Post messages in the place of a plugin: from a pod, over the network, to whichever receiver a test wants."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from chorus_api.contract import CA_CONFIG_MAP, CA_KEY, RUN_SERVICE_ACCOUNT
from harness.client import Manifest
from harness.cluster import OPERATOR_NAMESPACE, Env
from harness.record import Record

OPERATOR = "chorus-operator"
SCALE_SECONDS = 180
POST_SECONDS = 120

_POST = """
import httpx, json, ssl, sys
from concurrent.futures import ThreadPoolExecutor
given = json.load(sys.stdin)
context = ssl.create_default_context(cadata=given["ca"])

def post(letter):
    name, receiver, token, body = letter
    headers = {"content-type": "application/cloudevents+json", "host": given["host"]}
    headers |= {"authorization": f"Bearer {token}"} if token else {}
    url = f"https://{given['receivers'][receiver]}:8443/v1/messages"
    with httpx.Client(verify=context, timeout=30, trust_env=False) as client:
        answer = client.post(url, content=body, headers=headers, extensions={"sni_hostname": given["host"]})
    return name, answer.status_code, answer.json().get("cause") if answer.content else None

with ThreadPoolExecutor(16) as pool:
    print(json.dumps([answer for together in given["rounds"] for answer in pool.map(post, together)]))
"""
_REFUSED = """
import httpx, json, sys
get = httpx.Client(trust_env=False, timeout=30).get
texts = [get(f"http://{address}:8080/metrics").text for address in json.load(sys.stdin)]
lines = [line for text in texts for line in text.splitlines() if line.startswith("chorus_messages_refused_total{")]
print(json.dumps([[line.split('"')[1], float(line.split()[-1])] for line in lines]))
"""


@dataclass(frozen=True)
class Letter:
    """A message for one of the receivers, by its index; letters of one name are told together."""

    name: str
    token: str
    body: bytes
    receiver: int = 0


@dataclass(frozen=True)
class Post:
    """The receivers, as `pod` reaches them."""

    place: Env
    pod: str
    receivers: Sequence[str]

    async def send(self, *rounds: Sequence[Letter]) -> dict[str, list[tuple[int, str | None]]]:
        """Post round after round, the letters of a round at once; status and cause of each answer, sorted, by name."""
        bundle = await self.place.api.get("ConfigMap", CA_CONFIG_MAP, namespace=self.place.namespace)
        letters = [
            [[each.name, each.receiver, each.token, each.body.decode()] for each in together] for together in rounds
        ]
        host = f"{OPERATOR}.{OPERATOR_NAMESPACE}.svc"
        given = {"ca": bundle["data"][CA_KEY], "host": host, "receivers": self.receivers, "rounds": letters}
        answers: dict[str, list[tuple[int, str | None]]] = {}
        for name, status, cause in await self.place.python(self.pod, _POST, given=given, seconds=POST_SECONDS):
            answers.setdefault(name, []).append((status, cause))
        return {name: sorted(each, key=str) for name, each in answers.items()}

    async def refused(self) -> Counter[str]:
        """How many messages the receivers have refused, by cause."""
        counts: Counter[str] = Counter()
        for cause, count in await self.place.python(self.pod, _REFUSED, given=self.receivers):
            counts[cause] += int(count)
        return counts


@asynccontextmanager
async def receivers(place: Env, *, count: int) -> AsyncIterator[list[str]]:
    """Let so many operators run while this is open; the addresses of their pods. Then it is one again."""
    async with Record(place.api, OPERATOR_NAMESPACE, kinds=("Pod",)) as pods:
        try:
            yield await _scale(place, pods, count)
        finally:
            await _scale(place, pods, 1)


async def _scale(place: Env, pods: Record, count: int) -> list[str]:
    await place.api.patch("Deployment", OPERATOR, {"spec": {"replicas": count}}, namespace=OPERATOR_NAMESPACE)
    there: list[Manifest] = []

    def check() -> Manifest | None:
        there[:] = pods.all("Pod", labels={"app.kubernetes.io/name": OPERATOR})
        return there[0] if len(there) == count and all(map(_is_ready, there)) else None

    await pods.wait(check, seconds=SCALE_SECONDS)
    return [pod["status"]["podIP"] for pod in there]


def _is_ready(pod: Manifest) -> bool:
    conditions = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


async def token_of(
    place: Env, pod: Manifest | None, *, audience: str = "chorus", account: str = RUN_SERVICE_ACCOUNT
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
    """The token with another subject in it, under the old signature."""
    head, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims |= {"sub": "system:serviceaccount:kube-system:chorus-run", "name": "another"}
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"{head}.{changed}.{signature}"
