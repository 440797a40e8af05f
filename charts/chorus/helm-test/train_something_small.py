"""What `helm test` runs: train something small through Chorus, check what was published, and leave nothing behind.

It makes a base model on its claim, applies a Plugin and a Project, waits until the run has ended, compares the model's
digests with its files, and deletes both. Exit 0 only if all of that is so; otherwise the last lines say why.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ROOMS = ("kitchen", "bedroom", "garage", "hall", "office", "attic", "cellar", "garden")
ROWS = 40
PROJECT, PLUGIN, ENTRY = "helm-test", "helm-test", "tiny"
FINAL = {"TRAINED", "failed", "notApplicable", "cancelled"}
POLL_SECONDS = 1.0
CLEAN_SECONDS = 60.0

Object = dict[str, Any]


class Failed(Exception):
    """Chorus did not do what it should; the text says what was seen."""


class Api:
    """The API server, with the rights of the test's own account."""

    def __init__(self, namespace: str) -> None:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        address = f"[{host}]" if ":" in host else host
        self._namespace = namespace
        self._client = httpx.Client(
            base_url=f"https://{address}:{port}",
            headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"},
            verify=ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")),
            timeout=20,
        )

    def path(self, plural: str, name: str = "") -> str:
        """Path of objects of the namespace; `plural` is one of ours, or of the core group."""
        root = "/api/v1" if plural in {"pods", "events"} else "/apis/chorus.dev/v1alpha1"
        return f"{root}/namespaces/{self._namespace}/{plural}" + (f"/{name}" if name else "")

    def get(self, plural: str, name: str = "") -> Object | None:
        """An object or a list; None when there is none."""
        answer = self._client.get(self.path(plural, name))
        return None if answer.status_code == 404 else self._body(answer)

    def create(self, plural: str, manifest: Object) -> None:
        """Make an object."""
        self._body(self._client.post(self.path(plural), json=manifest))

    def delete(self, plural: str, name: str) -> None:
        """Delete an object after all that it owns, if it is there."""
        answer = self._client.delete(self.path(plural, name), params={"propagationPolicy": "Foreground"})
        if answer.status_code != 404:
            self._body(answer)

    def _body(self, answer: httpx.Response) -> Object:
        body: Object = answer.json() if answer.content else {}
        if answer.is_error:
            asked = answer.request
            raise Failed(f"{asked.method} {asked.url.path}: {answer.status_code} {body.get('message', '')}")
        return body


def base_model(directory: Path) -> None:
    """Make a T5 as small as they get."""
    from transformers.utils.logging import disable_progress_bar  # torch comes with these: a few seconds

    from chorus_trainer.frame import Pair
    from chorus_trainer.tiny.build import Shape
    from chorus_trainer.tiny.pretrain import make

    disable_progress_bar()
    pairs = [Pair(f"lights on in the {room}", f"Switch the {room} lights on.") for room in ROOMS]
    make("t5", pairs, out=directory, steps=1, shape=Shape(vocabulary=400, width=32, layers=1, heads=2), seed=1)


def plugin_manifest(settings: Object) -> Object:
    """A Plugin for that model: one epoch of ten steps."""
    lora = {
        "baseModel": {"uri": f"pvc://{settings['claim']}/base-model"},
        "epochs": 1,
        "batchSize": 4,
        "gradientAccumulation": 1,
        "learningRate": "1e-3",
        "r": 4,
        "maxSourceTokens": 48,
        "maxTargetTokens": 48,
    }
    spec = {
        "type": "lora",
        "lora": lora,
        "requires": {"columns": ["prompt", "response"], "minRows": 10},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}},
        "retry": {"disruption": 1, "infrastructure": 1},
        "pod": settings["pod"],
    }
    return {"apiVersion": "chorus.dev/v1alpha1", "kind": "Plugin", "metadata": {"name": PLUGIN}, "spec": spec}


def project_manifest(settings: Object) -> Object:
    """A Project over a table of its own, on the claim that this pod holds."""
    rows = [f"lights {number} on in the {ROOMS[number % 8]},Switch {number} on." for number in range(ROWS)]
    spec = {
        "dataset": {"source": {"inline": {"data": "\n".join(["prompt,response", *rows, ""])}}, "format": "csv"},
        "plugins": [{"name": ENTRY, "pluginRef": {"name": PLUGIN}}],
        "storage": {"claimName": settings["claim"]},
    }
    return {"apiVersion": "chorus.dev/v1alpha1", "kind": "Project", "metadata": {"name": PROJECT}, "spec": spec}


def until(check: Callable[[], Any], *, seconds: float) -> Any:
    """Ask until the answer is true; the last answer, true or not."""
    end = time.monotonic() + seconds
    while not (answer := check()) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    return answer


class Watch:
    """Looks at the Project and its run, and says what has changed."""

    def __init__(self, api: Api, began: float) -> None:
        self._api = api
        self._began = began
        self._said = ""
        self.project: Object = {}
        self.run: Object = {}

    def look(self) -> bool:
        """True when the run, or the Project without one, has ended."""
        self.project = self._api.get("projects", PROJECT) or {}
        row: Object = next(iter(self.project.get("status", {}).get("plugins", [])), {})
        self.run = (self._api.get("trainingruns", row["run"]) if row.get("run") else None) or {}
        self._say()
        phase = self.project.get("status", {}).get("phase")
        if self.run:
            return self.run.get("status", {}).get("phase") in FINAL and phase in FINAL
        return phase in FINAL

    def _say(self) -> None:
        told = "; ".join(
            f"{kind} {seen['metadata']['name']}: {status.get('phase')} ({status.get('reason')})"
            for kind, seen in (("Project", self.project), ("TrainingRun", self.run))
            if (status := seen.get("status"))
        )
        if told != self._said:
            self._said = told
            say(told, began=self._began)


def say(text: str, *, began: float) -> None:
    """Print a line with the seconds since the start."""
    print(f"{time.monotonic() - began:5.0f}s  {text}", flush=True)


def explain(api: Api, watch: Watch) -> str:
    """Why it is not TRAINED: what the statuses, the pods and the Events say."""
    lines = []
    for kind, seen in (("Project", watch.project), ("TrainingRun", watch.run)):
        status = seen.get("status")
        if not status:
            lines.append(f"{kind}: no status: does the operator run, and does it serve this namespace?")
            continue
        lines.append(f"{kind}: {status.get('phase')}: {status.get('reason')}: {status.get('message')}")
        if failure := status.get("failure"):
            lines.append(json.dumps(failure, indent=2, ensure_ascii=False))
    for pod in (api.get("pods") or {"items": []})["items"]:
        if pod["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "chorus":
            lines.append(f"pod {pod['metadata']['name']}: {pod['status'].get('phase')}")
    for event in (api.get("events") or {"items": []})["items"][-10:]:
        about = event["involvedObject"]
        lines.append(f"event {about.get('kind')} {about.get('name')}: {event.get('reason')}: {event.get('message')}")
    return "\n  ".join(lines)


def check(run: Object, volume: Path) -> str:
    """Compare the published model with its digests; what it is, in words. Raises Failed."""
    model = run["status"]["model"]
    folder = volume / "models" / model["name"]
    sums = (folder / "SHA256SUMS").read_bytes()
    if model["digest"] != (found := f"sha256:{hashlib.sha256(sums).hexdigest()}"):
        raise Failed(f"status.model.digest is {model['digest']}, that of the published SHA256SUMS is {found}")
    names = []
    for line in sums.decode().splitlines():
        expected, name = line.split(maxsplit=1)
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
            raise Failed(f"the digest of {name} is not the one in SHA256SUMS")
        names.append(name)
    if "adapter_model.safetensors" not in names:
        raise Failed(f"the published model has no adapter_model.safetensors, only {', '.join(names)}")
    if not math.isfinite(float(model["finalLoss"])):
        raise Failed(f"the final loss is {model['finalLoss']}")
    return f"model {model['name']}, {len(names)} files with right digests, final loss {model['finalLoss']}"


def clean(api: Api) -> None:
    """Delete the Project with its runs, Jobs and pods, and the Plugin. Raises Failed when the Project stays."""
    api.delete("projects", PROJECT)
    api.delete("plugins", PLUGIN)
    if not until(lambda: api.get("projects", PROJECT) is None, seconds=CLEAN_SECONDS):
        raise Failed(f"Project {PROJECT} is still there {CLEAN_SECONDS:.0f} s after it was deleted")


def train(api: Api, settings: Object, *, began: float) -> str:
    """Do the test; what was made, in words. Raises Failed."""
    volume = Path(settings["volume"])
    base_model(volume / "base-model")
    say("base model made", began=began)
    api.create("plugins", plugin_manifest(settings))
    api.create("projects", project_manifest(settings))
    watch = Watch(api, began)
    ended = until(watch.look, seconds=settings["seconds"] - (time.monotonic() - began))
    if not ended or watch.run.get("status", {}).get("phase") != "TRAINED":
        why = "it did not end well" if ended else f"it has not ended {settings['seconds']} s after the test began"
        raise Failed(f"{why}:\n  {explain(api, watch)}")
    return check(watch.run, volume)


def stop(number: int, frame: object) -> None:
    """Helm gave up, or the node is drained: end, and clean up on the way."""
    raise Failed(f"the test was stopped by signal {number}; see --timeout of helm test")


def main() -> int:
    """Run the test; the exit status."""
    began = time.monotonic()
    signal.signal(signal.SIGTERM, stop)
    settings: Object = json.loads(os.environ["CHORUS_TEST"])
    api = Api(settings["namespace"])
    problems = []
    try:
        clean(api)  # what a test that was killed has left
        say(train(api, settings, began=began), began=began)
    except (Failed, OSError, httpx.HTTPError, KeyError, ValueError) as error:
        problems.append(str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}")
    try:
        clean(api)
        say("cleaned up", began=began)
    except (Failed, httpx.HTTPError) as error:
        problems.append(f"cleaning up: {error}")
    for problem in problems:
        print(f"FAILED: {problem}", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
