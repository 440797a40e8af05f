"""What the operator was seen to ask of the API server: the audit log of the control plane's node, read by a pod."""

from __future__ import annotations

from typing import NamedTuple

from builders import Manifest
from harness.client import Api
from harness.cluster import Env

AUDIT_LOG = "/var/log/chorus-audit/audit.log"
LABELS = {"pod-security.kubernetes.io/enforce": "privileged"}
START_SECONDS = 60.0
NAME = "audit"

SCRIPT = """
import glob, json, sys
seen = {}
for path in sorted(glob.glob("/audit/*.log")):
    for line in open(path):
        event = json.loads(line)
        about = event.get("objectRef", {})
        group, plural, part = (about.get(key, "") for key in ("apiGroup", "resource", "subresource"))
        if plural:
            resource = (group + "/" if group else "") + plural + ("/" + part if part else "")
            # Admission answers 403 as well, for example while a namespace is being deleted.
            decision = event.get("annotations", {}).get("authorization.k8s.io/decision")
            key = (event["verb"], resource, decision == "forbid")
            seen[key] = seen.get(key, 0) + 1
print(json.dumps([[*key, count] for key, count in seen.items()]))
"""


class Asked(NamedTuple):
    """One kind of request: verb, `group/plural/subresource`, whether it was forbidden, and how often it came."""

    verb: str
    resource: str
    forbidden: bool
    count: int


async def requests_of_the_operator(api: Api, *, image: str) -> list[Asked]:
    """Read the audit log. `image` has a Python."""
    nodes = await api.list("Node", labels="node-role.kubernetes.io/control-plane")
    async with Env.make(api, "audit", labels=LABELS) as place:
        await place.apply(_reader(node=nodes[0]["metadata"]["name"], image=image))
        await place.wait("Pod", NAME, phase="Running", seconds=START_SECONDS)
        return [Asked(*seen) for seen in await place.python(NAME, SCRIPT)]


def _reader(*, node: str, image: str) -> Manifest:
    container = {
        "name": "main",
        "image": image,
        "command": ["sleep", "3600"],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "log", "mountPath": "/audit", "readOnly": True}],
    }
    spec = {
        "nodeName": node,
        "tolerations": [{"operator": "Exists"}],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "log", "hostPath": {"path": AUDIT_LOG.rpartition("/")[0], "type": "Directory"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME}, "spec": spec}
