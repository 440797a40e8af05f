"""A pod that holds a claim, to put files there, to look at what others left, and to speak to Services."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.binaries import REPOSITORY
from harness.client import Manifest
from harness.cluster import Env, command

POD = "hands"
CLAIM = "data"
MOUNT = "/claim"
START_SECONDS = 180.0
LIFE_SECONDS = 3600
MODELS_SECONDS = 300.0
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chorus"
KEPT_MODELS = 2


def manifests(image: str) -> list[Manifest]:
    """The claim, and the pod that holds it."""
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    container = {
        "name": "main",
        "image": image,
        "command": ["sleep", str(LIFE_SECONDS)],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": CLAIM, "mountPath": MOUNT}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": CLAIM, "persistentVolumeClaim": {"claimName": CLAIM}}],
        },
    }
    return [claim, pod]


async def make_models(directory: Path) -> None:
    """Put the small models there, made in a process of their own: torch need not be in this one.

    They are kept for the next time, since loading torch and making them takes ten seconds of CPU.
    """
    kept = CACHE / "test-models" / _key_of_models()
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".new-") as new:
            roots = ":".join(str(REPOSITORY / part) for part in ("operator", "trainer_image", "tests/support"))
            words = ("env", f"PYTHONPATH={roots}", "HF_HUB_OFFLINE=1", sys.executable, "-m", "harness.tiny_models")
            await command(*words, f"{new}/models", seconds=MODELS_SECONDS)
            with suppress(OSError):  # another process was faster
                os.rename(f"{new}/models", kept)
        for old in sorted(kept.parent.glob("[!.]*"), key=lambda path: path.stat().st_mtime)[:-KEPT_MODELS]:
            shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(kept, directory, dirs_exist_ok=True)


def _key_of_models() -> str:
    """Of everything that they are made by."""
    made_by = [
        REPOSITORY / "requirements" / "dev.lock",
        REPOSITORY / "tests" / "support" / "harness" / "tiny_models.py",
    ]
    made_by += sorted((REPOSITORY / "trainer_image" / "chorus_trainer" / "tiny").glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in made_by)).hexdigest()[:16]


async def lay_hands(place: Env, *, image: str, models: Path, files: Mapping[str, bytes] | None = None) -> None:
    """Make the claim with base-models/t5, base-models/decoder and `files`, and the pod that holds it."""
    await place.apply(*manifests(image))
    await place.wait("Pod", POD, where=_runs, seconds=START_SECONDS)
    words = ("exec", "-i", POD, "--", "tar", "--no-same-owner", "-xf", "-", "-C", MOUNT)
    await place.kubectl(*words, stdin=_archive(models, files or {}))


def _runs(pod: Manifest) -> bool:
    return bool(pod.get("status", {}).get("phase") == "Running")


def _archive(models: Path, files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(models, arcname="base-models", filter=_readable)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _readable(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mode |= 0o055 if info.isdir() else 0o044
    return info


TREE = """
import hashlib, json, os, sys
root = json.load(sys.stdin)
found = {}
for folder, folders, files in os.walk(root):
    for name in files + [one for one in folders if os.path.islink(os.path.join(folder, one))]:
        path = os.path.join(folder, name)
        link = os.readlink(path) if os.path.islink(path) else None
        digest = None if link else hashlib.sha256(open(path, "rb").read()).hexdigest()
        found[os.path.relpath(path, root)] = {"link": link, "sha256": digest, "size": os.lstat(path).st_size}
print(json.dumps(found))
"""


async def tree(place: Env, path: str = "") -> dict[str, dict[str, Any]]:
    """Every file and link below a directory of the claim: where the link points, or sha256 and size."""
    found: dict[str, dict[str, Any]] = await place.python(POD, TREE, given=f"{MOUNT}/{path}".rstrip("/"))
    return found


async def read(place: Env, path: str) -> str:
    """The text of a file of the claim."""
    return await place.kubectl("exec", POD, "--", "cat", f"{MOUNT}/{path}")
