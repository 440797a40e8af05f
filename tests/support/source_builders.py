"""Configurations for data that is somewhere else, and the Secrets that go with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chorus_api.project import UriSource
from chorus_api.run_config import PrepareConfig
from dataset_builders import prepare_config
from token_builders import encode


def ca_files(folder: Path, pem: bytes) -> Path:
    """Write a Secret with an authority's certificates, as the kubelet mounts it."""
    folder.mkdir(exist_ok=True)
    (folder / "ca.crt").write_bytes(pem)
    return folder


def secret_files(folder: Path, **keys: str) -> Path:
    """Write a Secret's keys as the kubelet mounts them; `_` in a name stands for `-`."""
    folder.mkdir(exist_ok=True)
    for name, value in keys.items():
        (folder / name.replace("_", "-")).write_text(value)
    return folder


def service_account_token(**claims: Any) -> str:
    """A token as the API server makes them; nobody has signed it."""
    bound = {"namespace": "ci", "serviceaccount": {"name": "deployer", "uid": "uid"}}
    told = claims or {"kubernetes.io": bound, "sub": "system:serviceaccount:ci:deployer"}
    return ".".join(encode(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "k"}, told, "signature"))


def fetched(url: str, *, secret: Path | None = None, sha256: str | None = None, **changes: Any) -> PrepareConfig:
    """A configuration for a file to fetch."""
    return prepare_config(
        Path(),
        **{
            "source_path": "",
            "source_name": url.partition("?")[0],
            "uri": UriSource(url=url, sha256=sha256),
            "secret_dir": str(secret) if secret else None,
            "secret_name": "reader" if secret else "",
            "eval_fraction": "0",
            **changes,
        },
    )


def queried(query: str, *, secret: Path, ca: Path | None = None, **changes: Any) -> PrepareConfig:
    """A configuration for a database whose address is the key `url` of a Secret; `ca`: a Secret with a key `ca.crt`."""
    return prepare_config(
        Path(),
        **{
            "source_path": "",
            "source_name": "Secret warehouse, key url",
            "database_key": "url",
            "secret_dir": str(secret),
            "secret_name": "warehouse",
            "ca_key": "ca.crt" if ca else None,
            "ca_dir": str(ca) if ca else None,
            "ca_secret_name": "warehouse-ca" if ca else "",
            "query": query,
            "eval_fraction": "0",
            **changes,
        },
    )
