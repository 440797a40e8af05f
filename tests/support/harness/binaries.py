"""Where the programs of a control plane are: etcd, kube-apiserver, kube-controller-manager, kubectl; and promtool."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
BUILD_SECONDS = 1800


@cache
def kube_binaries() -> Path:
    """Name the directory of the programs: `CHORUS_KUBE_BIN`, else what `kind/cluster binaries` makes or has made."""
    if given := os.environ.get("CHORUS_KUBE_BIN"):
        return Path(given)
    command = [str(REPOSITORY / "kind" / "cluster"), "binaries"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError("kind/cluster binaries failed, see above; or set CHORUS_KUBE_BIN to where the programs are")
    return Path(done.stdout.strip().splitlines()[-1])


@cache
def promtool() -> Path:
    """Name the program promtool: in `CHORUS_PROMTOOL_BIN`, else in what `kind/cluster promtool` makes or has made."""
    if given := os.environ.get("CHORUS_PROMTOOL_BIN"):
        return Path(given) / "promtool"
    command = [str(REPOSITORY / "kind" / "cluster"), "promtool"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError("kind/cluster promtool failed, see above; or set CHORUS_PROMTOOL_BIN to where promtool is")
    return Path(done.stdout.strip().splitlines()[-1]) / "promtool"


def kustomize(directory: Path, *, binaries: Path) -> list[dict[str, object]]:
    """Render a kustomization, as `kubectl apply -k` would apply it."""
    command = [str(binaries / "kubectl"), "kustomize", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"kubectl kustomize {directory}: {done.stderr.strip()}")
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


@cache
def postgres_binaries() -> Path:
    """Name the directory of PostgreSQL's programs: `CHORUS_POSTGRES_BIN`, else what `kind/cluster postgres` gives."""
    if given := os.environ.get("CHORUS_POSTGRES_BIN"):
        return Path(given)
    command = [str(REPOSITORY / "kind" / "cluster"), "postgres"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode != 0:
        raise RuntimeError("kind/cluster postgres failed, see above; or set CHORUS_POSTGRES_BIN to where initdb is")
    return Path(done.stdout.strip().splitlines()[-1])
