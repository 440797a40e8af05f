"""Plugins for tests of the conformance kit: a small good one that needs Python alone, and ways of spoiling it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GOOD = '''\
import csv, hashlib, json, os, signal, ssl, sys, time, urllib.error, urllib.request, uuid

E = os.environ
STOP = []
SEQUENCE = 0


def send(kind, **data):
    global SEQUENCE
    SEQUENCE += 1
    event = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "/good",
        "type": "dev.chorus." + kind,
        "subjectuid": E["CHORUS_SUBJECT_UID"],
        "attempt": E["CHORUS_ATTEMPT"],
        "sequence": str(SEQUENCE),
        "datacontenttype": "application/json",
        "data": data,
    }
    if "CHORUS_MESSAGES_FILE" in E:
        with open(E["CHORUS_MESSAGES_FILE"], "a") as file:
            file.write(json.dumps({"type": kind, "data": data}) + "\\n")
        return
    deliver(json.dumps(event).encode())


def deliver(body):
    end, pause = time.monotonic() + 60, 0.05
    while True:
        request = urllib.request.Request(E["CHORUS_MESSAGES_URL"], body, headers())
        try:
            with urllib.request.urlopen(request, timeout=10, context=context()):
                return
        except urllib.error.HTTPError as error:
            if error.code not in (408, 429) and error.code < 500:
                sys.exit("refused: " + error.read().decode())
        except OSError:
            pass
        if time.monotonic() > end:
            return
        time.sleep(pause)
        pause = min(pause * 2, 5)


def context():
    return ssl.create_default_context(cafile=E["CHORUS_CA_FILE"])


def token():
    with open(E["CHORUS_TOKEN_FILE"]) as file:
        return file.read().strip()


def headers():
    return {"Content-Type": "application/cloudevents+json", "Authorization": "Bearer " + token()}


def describe():
    send("ONLINE_REPORT", **{
        "id": "majority", "name": "Majority", "type": "classifier", "description": "Says what most rows say.",
        "parameters": {"steps": 4},
        "needed_columns": ["island"], "needed_info": ["outcome"], "min_rows": 10,
        "parameters_schema": {"properties": {"steps": {"type": "integer", "minimum": 1, "maximum": 50, "default": 4}}},
    })


def wrong_parameter(parameters):
    for name, value in parameters.items():
        if name != "steps":
            return "there is no parameter " + name
        if not isinstance(value, int) or not 1 <= value <= 50:
            return "steps must be an integer from 1 to 50"
    return None


def train():
    with open(E["CHORUS_TRAINING_DATA"]) as file:
        given = json.load(file)
    ids = {"project_id": given["project_id"], "plugin_id": given["plugin_id"]}
    wrong = wrong_parameter(given["parameters"])
    if wrong:
        send("ERROR_REPORT", detail=wrong, **ids)
        return 64
    with open(os.path.join(E["CHORUS_DATA_DIR"], "train.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    outcome = given["info"].get("outcome")
    if outcome not in rows[0] or "island" not in rows[0]:
        send("DATA_REPORT", applicable=False, reason="a needed column or info is missing", **ids)
        return 69
    send("DATA_REPORT", applicable=True, **ids)
    send("TRAINING_START", **ids)
    checkpoint = os.path.join(E["CHORUS_RUN_DIR"], "checkpoint.json")
    done, counts = 0, {}
    if os.path.exists(checkpoint):
        with open(checkpoint) as file:
            done, counts = json.load(file)
    steps = given["parameters"].get("steps", 4)
    for step in range(done, steps):
        if STOP:
            with open(checkpoint + ".new", "w") as file:
                json.dump([step, counts], file)
            os.rename(checkpoint + ".new", checkpoint)
            return 75
        for row in rows[step::steps]:
            counts[row[outcome]] = counts.get(row[outcome], 0) + 1
        send("progress", percent=100 * (step + 1) // steps, metrics={"seen": float(sum(counts.values()))}, **ids)
    out = E["CHORUS_OUT_DIR"]
    os.makedirs(out, exist_ok=True)
    model = json.dumps({"says": max(counts, key=counts.get)}).encode()
    with open(os.path.join(out, "model.json"), "wb") as file:
        file.write(model)
    with open(os.path.join(out, "SHA256SUMS"), "w") as file:
        file.write(hashlib.sha256(model).hexdigest() + "  model.json\\n")
    send("MODEL_NAME", model_name="majority", **ids)
    return 0


signal.signal(signal.SIGTERM, lambda *_: STOP.append(1))
sys.exit(describe() if E["CHORUS_ROLE"] == "describe" else train())
'''


@dataclass(frozen=True)
class Spoilt:
    """A way of breaking one rule: texts of the good plugin, and what stands there instead."""

    rule: str
    changes: Sequence[tuple[str, str]]

    def source(self) -> str:
        """The plugin; a text that the good one does not have (any more) is an error of the test."""
        text = GOOD
        for old, new in self.changes:
            assert text.count(old) == 1, f"{self.rule}: {old!r} stands {text.count(old)} times in the good plugin"
            text = text.replace(old, new)
        return text


def write_plugin(folder: Path, source: str = GOOD, *, command: Sequence[str] = (sys.executable, "main.py")) -> Path:
    """Write a plugin's directory."""
    folder.mkdir()
    (folder / "main.py").write_text(source, encoding="utf-8")
    (folder / "plugin.json").write_text(json.dumps({"command": list(command)}), encoding="utf-8")
    return folder
