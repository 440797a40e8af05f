"""Plugins for tests of the conformance kit: a small good one that needs Python alone, and ways of spoiling it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chorus_conformance.observed import Scenario

GOOD = """\
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
"""


TRAIN, STOP = Scenario.TRAIN, (Scenario.STOP, Scenario.RESUME)


@dataclass(frozen=True)
class Spoilt:
    """A way of breaking one rule: texts of the good plugin, and what stands there instead."""

    rule: str
    what: str
    changes: tuple[tuple[str, str], ...]
    ran: tuple[Scenario, ...]
    """What must be run besides describe."""
    seen: str
    """What the report must say of it."""

    def __str__(self) -> str:
        return f"{self.rule}-{self.what}".replace(" ", "_")

    def source(self, good: str = "") -> str:
        """The plugin; a text that the good one does not have (any more) is an error of the test."""
        text = good or GOOD
        for old, new in self.changes:
            assert text.count(old) == 1, f"{self.rule}: {old!r} stands {text.count(old)} times in the good plugin"
            text = text.replace(old, new)
        return text


def spoilt(rule: str, what: str, *changes: tuple[str, str], seen: str, ran: Sequence[Scenario] = (TRAIN,)) -> Spoilt:
    """Name a way of breaking one rule."""
    return Spoilt(rule, what, changes, tuple(ran), seen)


_TRAIN = "def train():\n"
_MODEL = 'send("MODEL_NAME", model_name="majority", **ids)'
_START = '    send("TRAINING_START", **ids)\n'
_SUITS = '    send("DATA_REPORT", applicable=True, **ids)\n'
_PERCENT = "percent=100 * (step + 1) // steps"
_DEFAULTS = '"parameters": {"steps": 4},'
SPOILT = (
    spoilt(
        "C102",
        "a path written into the code",
        ('os.path.join(E["CHORUS_DATA_DIR"], "train.csv")', '"/chorus/data/train.csv"'),
        seen="/chorus/data/train.csv",
    ),
    spoilt(
        "C104", "a file beside the code", (_TRAIN, _TRAIN + '    open("notes.txt", "w").close()\n'), seen="notes.txt"
    ),
    spoilt("C105", "the token in the log", (_TRAIN, _TRAIN + "    print(headers())\n"), seen="what it printed"),
    spoilt(
        "C105",
        "the token in the artefact",
        ('json.dumps({"says": max(counts, key=counts.get)})', 'json.dumps({"says": token()})'),
        seen="model.json",
    ),
    spoilt(
        "C106",
        "no look at the certificate",
        ('ssl.create_default_context(cafile=E["CHORUS_CA_FILE"])', "ssl._create_unverified_context()"),
        ran=(Scenario.IMPOSTOR,),
        seen="ONLINE_REPORT",
    ),
    spoilt(
        "C201", "an exit code", ("sys.exit(describe() if", "sys.exit(describe() or 3 if"), ran=(), seen="exit code 3"
    ),
    spoilt("C201", "no answer", ('    send("ONLINE_REPORT", **{', "    dict(**{"), ran=(), seen="no ONLINE_REPORT"),
    spoilt("C202", "no description", ('"description": "Says what most rows say.",', ""), ran=(), seen="description"),
    spoilt(
        "C203",
        "a default out of bounds",
        (_DEFAULTS, '"parameters": {"steps": 99},'),
        ("not 1 <= value <= 50", "not 1 <= value <= 99"),
        ran=(),
        seen="at most 50",
    ),
    spoilt(
        "C203",
        "a required name that is none",
        ('"maximum": 50, "default": 4}}}', '"maximum": 50}}, "required": ["seed"]}'),
        ran=(),
        seen="'seed'",
    ),
    spoilt("C301", "no source", ('        "source": "/good",\n', ""), ran=(), seen="source"),
    spoilt("C301", "plain text", ("application/cloudevents+json", "text/plain"), ran=(), seen="text/plain"),
    spoilt(
        "C302",
        "a type in small letters",
        ('"dev.chorus." + kind', '"dev.chorus." + kind.lower()'),
        ran=(),
        seen="online_report",
    ),
    spoilt(
        "C303", "another attempt", ('"attempt": E["CHORUS_ATTEMPT"]', '"attempt": "7"'), ran=(), seen="wrongAttempt"
    ),
    spoilt("C303", "ids of another run", ('"plugin_id": given["plugin_id"]', '"plugin_id": 1'), seen="wrongIds"),
    spoilt(
        "C304", "counting by two", ("SEQUENCE += 1", "SEQUENCE += 2"), ran=(), seen="sequence 2 came where 1 was due"
    ),
    spoilt("C304", "one id for all", ('"id": str(uuid.uuid4())', '"id": "one"'), seen="'one'"),
    spoilt("C305", "too much percent", (_PERCENT, _PERCENT + " + 1"), seen="data.percent"),
    spoilt("C306", "a number that is none", ("float(sum(counts.values()))", 'float("nan")'), seen="finite"),
    spoilt(
        "C307",
        "a long message",
        ('"data": data,\n    }', '"data": data, "more": "x" * 70000,\n    }'),
        ran=(),
        seen="tooLarge",
    ),
    spoilt(
        "C308", "the wrong way round", (_SUITS + _START, _START + _SUITS), seen="DATA_REPORT with sequence 2 came after"
    ),
    spoilt("C308", "words after the end", (_MODEL, _MODEL + '; send("progress", percent=100, **ids)'), seen="the end"),
    spoilt("C309", "another scheme", ('"Bearer " + token()', '"Token " + token()'), ran=(), seen="noToken"),
    spoilt("C401", "a crash", (_TRAIN, _TRAIN + '    raise ValueError("no idea")\n'), seen="ValueError: no idea"),
    spoilt("C402", "no TRAINING_START", (_START, ""), seen="no TRAINING_START"),
    spoilt("C403", "percent that falls", (_PERCENT, "percent=100 - 10 * step"), seen="percent fell from 100 to 90"),
    spoilt("C404", "no MODEL_NAME", (_MODEL, "pass"), seen="no MODEL_NAME"),
    spoilt(
        "C405",
        "a pickle",
        ('"model.json"), "wb"', '"model.pkl"), "wb"'),
        ("  model.json", "  model.pkl"),
        seen="model.pkl",
    ),
    spoilt(
        "C405",
        "a link",
        (_MODEL, 'os.symlink("model.json", os.path.join(out, "latest.json")); ' + _MODEL),
        seen="latest.json",
    ),
    spoilt("C406", "a wrong digest", ("hashlib.sha256(model)", 'hashlib.sha256(b"else")'), seen="model.json"),
    spoilt(
        "C406",
        "a digest of something else",
        (_MODEL, _MODEL.replace("**ids", 'digest="sha256:" + "0" * 64, **ids')),
        seen="000",
    ),
    spoilt("C501", "a crash", ("return 69", "return 1"), ran=(Scenario.NOT_APPLICABLE,), seen="exit code 1"),
    spoilt(
        "C501",
        "no look at all",
        ('or "island" not in rows[0]', ""),
        ran=(Scenario.NOT_APPLICABLE,),
        seen="says that the frame suits",
    ),
    spoilt(
        "C502",
        "any value",
        ("not 1 <= value <= 50", "value > 50"),
        ('"steps", 4)', '"steps", 4) or 4'),
        ran=(Scenario.BAD_VALUE,),
        seen="steps=0",
    ),
    spoilt(
        "C503",
        "any name",
        ('if name != "steps":', 'if name == "":'),
        ('"steps must', '"" and "steps must'),
        ran=(Scenario.UNKNOWN_NAME,),
        seen="chorus_check_unknown",
    ),
    spoilt("C601", "an end without state", ("return 75", "return 1"), ran=STOP, seen="exit code 1"),
    spoilt(
        "C601",
        "no end",
        ("        if STOP:\n", "        while STOP: time.sleep(1)\n        if STOP:\n"),
        ran=STOP,
        seen="still running",
    ),
    spoilt(
        "C602",
        "a checkpoint that it cannot read",
        ("done, counts = json.load(file)", "return 3"),
        ran=STOP,
        seen="exit code 3",
    ),
    spoilt(
        "C701",
        "an end at the first fault",
        ("            pass\n", "            return sys.exit(1)\n"),
        ran=(Scenario.OUTAGE,),
        seen="never arrived",
    ),
    spoilt(
        "C702",
        "a new id each time",
        (
            "        request = urllib",
            "        body = json.dumps(json.loads(body) | {'id': uuid.uuid4().hex}).encode()\n        request = urllib",
        ),
        ran=(Scenario.OUTAGE,),
        seen="nobody can tell",
    ),
    spoilt(
        "C703",
        "the token of the start",
        ('"Bearer " + token()', '"Bearer " + TOKEN'),
        ("STOP = []\n", 'STOP = []\nTOKEN = open(E["CHORUS_TOKEN_FILE"]).read().strip()\n'),
        ran=(Scenario.OUTAGE,),
        seen="had held before",
    ),
)
"""A plugin for each rule that a process can break, at least."""


NEEDS_ROOT_FILES = spoilt(
    "C103",
    "a file in the root file system",
    (_TRAIN, _TRAIN + '    open("/var/tmp/cache", "w").close()\n'),
    ran=(TRAIN, Scenario.UNCONFINED),
    seen="/var/tmp/cache",
)
LAST_WORD = spoilt(
    "C407",
    "nothing: it writes a good last word",
    (_MODEL, _MODEL + """; open("/dev/termination-log", "w").write('{"outcome": "succeeded"}')"""),
    seen="",
)
"""For containers alone."""
KUBEFLOW = spoilt(
    "C403",
    "nothing: its progress is in the form of Kubeflow Trainer",
    (
        'send("progress", percent=100 * (step + 1) // steps, metrics={"seen": float(sum(counts.values()))}, **ids)',
        """urllib.request.urlopen(urllib.request.Request(
            E["KUBEFLOW_TRAINER_SERVER_URL"],
            json.dumps({"trainerStatus": {
                "progressPercentage": 100 * (step + 1) // steps, "metrics": [{"name": "loss", "value": "0.5"}],
            }}).encode(),
            {
                "Content-Type": "application/json",
                "Authorization": "Bearer " + open(E["KUBEFLOW_TRAINER_SERVER_TOKEN"]).read().strip(),
            },
        ), context=ssl.create_default_context(cafile=E["KUBEFLOW_TRAINER_SERVER_CA_CERT"])).close()""",
    ),
    seen="",
)
"""It breaks nothing."""


def write_plugin(folder: Path, source: str = GOOD, *, command: Sequence[str] = (sys.executable, "main.py")) -> Path:
    """Write a plugin's directory."""
    folder.mkdir()
    (folder / "main.py").write_text(source, encoding="utf-8")
    (folder / "plugin.json").write_text(json.dumps({"command": list(command)}), encoding="utf-8")
    return folder
