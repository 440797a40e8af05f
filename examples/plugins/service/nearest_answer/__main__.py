"""The service: takes signed events by POST, answers 202 at once, and works beside."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from nearest_answer.correspondence import Refused, Unreachable, correspondence
from nearest_answer.signature import Signatures, Untrusted
from nearest_answer.training import REPORT, train

LOG = logging.getLogger("nearest_answer")
MAX_BODY_BYTES = 1 << 20
REMEMBERED = 1024
AT_ONCE = 2
BAD_CONFIGURATION = 64


class Service:
    """Answers inquiries, and trains for at most AT_ONCE runs at a time; the others wait their turn."""

    def __init__(self, signatures: Signatures, *, url: str) -> None:
        """`url`: the service's own, as the Plugin says it."""
        self._signatures = signatures
        self._url = url
        self._known: OrderedDict[str, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def take(self, request: web.Request) -> web.Response:
        """Take an event of Chorus. What was taken before is taken again, and nothing is done twice."""
        body = await request.read()
        try:
            identity = self._signatures.check(request.headers, body, now=time.time())
        except Untrusted as error:
            return web.json_response({"error": str(error)}, status=401)
        try:
            event = json.loads(body)
            work = {"dev.chorus.ONLINE_INQUIRY": self._report, "dev.chorus.TRAINING_DATA": self._train}[event["type"]]
            recipient = event["recipient"]
        except (ValueError, TypeError, KeyError) as error:
            return web.json_response({"error": f"this is no event that the service knows: {error!r}"}, status=422)
        if recipient != self._url:
            # Somebody who was sent it sends it on: only they and Chorus know of it.
            return web.json_response({"error": f"this is meant for {recipient}, not for {self._url}"}, status=403)
        if identity not in self._known:
            self._remember(identity)
            task = asyncio.create_task(self._work(work(event), about=f"{event['type']} {identity}"))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return web.Response(status=202)

    async def close(self, _app: web.Application) -> None:
        """Give up what is under way: Chorus ends the run at its deadline, or tries again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, work: Any, *, about: str) -> None:
        try:
            await work
        except (Refused, Unreachable, KeyError) as error:
            LOG.error("%s: %r", about, error)

    async def _report(self, event: Mapping[str, Any]) -> None:
        async with correspondence(event) as line:
            await line.say("ONLINE_REPORT", **REPORT)

    async def _train(self, event: Mapping[str, Any]) -> None:
        async with self._turn, correspondence(event) as line:
            await train(event["data"], line)

    def _remember(self, identity: str) -> None:
        self._known[identity] = None
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def application(service: Service) -> web.Application:
    """The service's routes."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.add_routes([web.post("/", service.take), web.get("/healthz", _healthy)])
    app.on_cleanup.append(service.close)
    return app


def main(environment: Mapping[str, str]) -> int:
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    file = Path(environment.get("CHORUS_WEBHOOK_KEY_FILE", "/etc/chorus/webhook.pub"))
    try:
        signatures = Signatures(file)
        port = int(environment.get("PORT", "8080"))
    except (OSError, ValueError) as error:
        LOG.error("%s; CHORUS_WEBHOOK_KEY_FILE (%s) must be webhook.pub of the ConfigMap chorus-ca", error, file)
        return BAD_CONFIGURATION
    url = environment.get("SERVICE_URL", "")
    if not url:
        LOG.error(
            "SERVICE_URL is missing: set it to the URL that the Plugin says, such as http://name.namespace.svc:80/"
        )
        return BAD_CONFIGURATION
    app = application(Service(signatures, url=url))
    web.run_app(app, host=environment.get("HOST"), port=port, print=None, access_log=None)
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
