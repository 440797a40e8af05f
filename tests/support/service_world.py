"""A world with a service: the reconciles over a cluster in memory, and hands for what a service and its exchange do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builders import make_project, make_service_plugin
from chorus_kube.resources import PLUGINS
from world import World, iso

RUN = "shop-far-1"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
MODEL = {"modelName": "best", "metrics": {"f1": "0.9"}}


class ServiceWorld(World):
    """A world with a service."""

    def begin(self, *, answers: bool = True, project: Mapping[str, Any] | None = None, **plugin: Any) -> None:
        """Apply a Plugin, which has answered, and a Project whose frame is ready; `project`: more of its spec."""
        spec = {"dataset": {"info": {"a": "b"}}, **(project or {})}
        self.put(make_service_plugin(**plugin), make_project(plugins=["far"], spec=spec))
        if answers:
            self.service_answers()
        self.frame_ready("shop")

    def service_answers(self, **report: Any) -> None:
        stored = self.plugin()
        entry = {"generation": stored["metadata"]["generation"], "time": iso(self.now), **report}
        self.kube.put({**stored, "status": {**stored.get("status", {}), "report": entry}})
        self.settle()

    def plugin(self) -> dict[str, Any]:
        found = self.kube.find(PLUGINS, "far")
        assert found is not None
        return found

    def condition(self, name: str, *, run: str | None = RUN) -> dict[str, Any]:
        status = (self.run(run) if run else self.plugin())["status"]
        return next((c for c in status["conditions"] if c["type"] == name), {})

    def exchange_serves(self, *, attempt: int = 1) -> None:
        self.pod_starts(self.attempt(RUN, attempt))
        self.pod_says(RUN, exchange={"podUid": f"exchange-{attempt}", "certificate": CERTIFICATE})

    def trains(self, *, attempt: int = 1) -> None:
        self.exchange_serves(attempt=attempt)
        self.pod_says(RUN, dataReport={"applicable": True}, trainingStart={}, progress={"percent": 10})

    def failure(self) -> tuple[str, str]:
        status = self.run(RUN)["status"]
        assert status["phase"] == "failed", status
        return status["reason"], status["message"]
