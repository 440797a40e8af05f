"""A small good service for tests of the conformance kit, which runs as a process, and ways of spoiling it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chorus_conformance.observed import Scenario
from plugin_builders import Spoilt, spoilt

GOOD_SERVICE = """\
import base64, csv, json, ssl, sys, threading, time, urllib.error, urllib.request, uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KEY = Ed25519PublicKey.from_public_bytes(base64.b64decode(sys.argv[1].removeprefix("whpk_")))
SEEN = set()


def is_signed(headers, body):
    try:
        stamp = headers["webhook-timestamp"]
        signature = base64.b64decode(headers["webhook-signature"].removeprefix("v1a,"))
        KEY.verify(signature, ".".join((headers["webhook-id"], stamp, "")).encode() + body)
        return abs(time.time() - int(stamp)) < 300
    except (InvalidSignature, ValueError, TypeError, AttributeError):
        return False


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if not is_signed(self.headers, body):
            return self.answer(401)
        event, number = json.loads(body), self.headers["webhook-id"]
        if event["recipient"] != f"http://127.0.0.1:{server.server_address[1]}/":
            return self.answer(403)
        if number not in SEEN:
            SEEN.add(number)
            work = describe if event["type"].endswith("ONLINE_INQUIRY") else train
            threading.Thread(target=work, args=(Run(event),), daemon=True).start()
        self.answer(202)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Run:
    def __init__(self, event):
        self.event, self.data, self.sequence = event, event["data"], 0

    def context(self, ca):
        return ssl.create_default_context(cadata=self.data[ca])

    def request(self, url, body=None, method=None):
        headers = {"Content-Type": "application/cloudevents+json", "Authorization": "Bearer " + self.data["token"]}
        return urllib.request.Request(url, body, headers, method=method)

    def send(self, kind, **data):
        self.sequence += 1
        body = json.dumps({
            "specversion": "1.0", "id": str(uuid.uuid4()), "source": "/service", "type": "dev.chorus." + kind,
            "subjectuid": self.event["subjectuid"], "attempt": self.event["attempt"], "sequence": str(self.sequence),
            "data": data,
        }).encode()
        pause, end = 0.05, time.monotonic() + 60
        while time.monotonic() < end:
            try:
                request = self.request(self.data["messages_url"], body)
                with urllib.request.urlopen(request, timeout=10, context=self.context("messages_ca")):
                    return
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    return
            except OSError:
                pass
            time.sleep(pause)
            pause = min(2 * pause, 1)

    def frame(self, name):
        request = self.request(self.data["location"] + name)
        with urllib.request.urlopen(request, context=self.context("exchange_ca")) as got:
            return got.read()

    def put(self, name, content):
        request = self.request(self.data["exchange_url"] + name, content, "PUT")
        urllib.request.urlopen(request, context=self.context("exchange_ca")).close()


def describe(run):
    run.send("ONLINE_REPORT", **{
        "id": "columns", "name": "Columns", "type": "counter", "description": "Counts rows.",
        "parameters": {"steps": 2}, "needed_columns": ["island"], "needed_info": [],
        "parameters_schema": {"properties": {"steps": {"type": "integer", "minimum": 1, "maximum": 9}}},
    })


def train(run):
    ids = {"project_id": run.data["project_id"], "plugin_id": run.data["plugin_id"]}
    steps = run.data["parameters"].get("steps")
    if set(run.data["parameters"]) != {"steps"} or not isinstance(steps, int) or not 1 <= steps <= 9:
        return run.send("ERROR_REPORT", detail="steps must be an integer from 1 to 9, and nothing else", **ids)
    frame = json.loads(run.frame("frame.json"))
    if "island" not in [column["name"] for column in frame["columns"]]:
        return run.send("DATA_REPORT", applicable=False, reason="there is no island", **ids)
    run.send("DATA_REPORT", applicable=True, **ids)
    run.send("TRAINING_START", **ids)
    for step in range(steps):
        run.send("progress", percent=100 * (step + 1) // steps, **ids)
    run.put("model.json", json.dumps({"rows": frame["rows"]}).encode())
    run.send("MODEL_NAME", model_name="columns", **ids)


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""

SPOILT_SERVICES = (
    spoilt(
        "S101",
        "an answer that is none",
        ("        self.answer(202)", "        self.answer(302)"),
        ran=(),
        seen="answered with 302",
    ),
    spoilt(
        "S102",
        "no look at the signature",
        ("if not is_signed(self.headers, body):", "if False:"),
        ran=(Scenario.FORGED,),
        seen="ONLINE_REPORT",
    ),
    spoilt(
        "S103",
        "every message anew",
        ("SEEN.add(number)", "pass"),
        ran=(Scenario.TWICE,),
        seen="TRAINING_START 2 times",
    ),
    spoilt(
        "S104",
        "no look at whom a message is meant for",
        ('if event["recipient"] != f"http://127.0.0.1:{server.server_address[1]}/":', "if False:"),
        ran=(Scenario.MISADDRESSED,),
        seen="ONLINE_REPORT",
    ),
    spoilt(
        "C106",
        "no look at the certificate",
        ("ssl.create_default_context(cadata=self.data[ca])", "ssl._create_unverified_context()"),
        ran=(Scenario.IMPOSTOR,),
        seen="ONLINE_REPORT",
    ),
    spoilt("C201", "silence", ('    run.send("ONLINE_REPORT", **{', "    dict(**{"), ran=(), seen="no message came"),
    spoilt(
        "C303",
        "another attempt",
        ('"attempt": self.event["attempt"]', '"attempt": "7"'),
        ran=(Scenario.TRAIN,),
        seen="wrongAttempt",
    ),
    spoilt(
        "C405",
        "no artefact",
        ('    run.put("model.json", json.dumps({"rows": frame["rows"]}).encode())\n', ""),
        ran=(Scenario.TRAIN,),
        seen="no file of a model",
    ),
    spoilt(
        "C501",
        "no look at the frame",
        ('if "island" not in [column["name"] for column in frame["columns"]]:', "if False:"),
        ran=(Scenario.NOT_APPLICABLE,),
        seen="says that the frame suits",
    ),
    spoilt(
        "C502",
        "any value",
        ("not 1 <= steps <= 9", "steps > 9"),
        ("in range(steps)", "in range(steps or 1)"),
        ("// steps, **ids", "// (steps or 1), **ids"),
        ran=(Scenario.BAD_VALUE,),
        seen="steps=0",
    ),
    spoilt(
        "C701",
        "an end at the first fault",
        ("if error.code < 500:", "if error.code < 600:"),
        ran=(Scenario.OUTAGE,),
        seen="never arrived: DATA_REPORT",
    ),
)


@contextmanager
def service(folder: Path, key: str, *, case: Spoilt | None = None) -> Iterator[str]:
    """Run a service that knows this public key; its URL."""
    folder.mkdir()
    file = folder / "service.py"
    file.write_text(GOOD_SERVICE if case is None else case.source(GOOD_SERVICE), encoding="utf-8")
    process = subprocess.Popen([sys.executable, str(file), key], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
    finally:
        process.kill()
        process.communicate(timeout=30)
