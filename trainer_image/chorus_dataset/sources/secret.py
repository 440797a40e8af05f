"""The Secret of a data source: files that the prepare Job alone sees, and that no message may quote."""

from __future__ import annotations

import json
from pathlib import Path

from chorus_api.reasons import Reason
from chorus_client.masking import MASK, mask
from chorus_dataset.errors import DataError
from chorus_dataset.sources.credentials import (
    HOSTS_KEY,
    HTTPS_PORT,
    SERVICE_ACCOUNT_KEYS,
    holds_service_account_token,
    names_host,
)
from chorus_net.addresses import pair

_MAX_BYTES = 1 << 20
_LEAST_MASKED = 4


class SourceSecret:
    """The keys of a mounted Secret; `folder` is None where the source needs none.

    The mount is optional, so that a Secret that is not there is this Job's finding, with a reason, and not a pod that
    never starts.
    """

    def __init__(self, folder: Path | None, *, name: str) -> None:
        self._folder = folder
        self._read: dict[str, str] = {}
        self.name = name

    @property
    def given(self) -> bool:
        """Whether the source names a Secret."""
        return self._folder is not None

    def path(self, key: str) -> Path | None:
        """Where the file of a key is; None if there is none."""
        path = self._folder / key if self._folder is not None else None
        return path if path is not None and path.is_file() else None

    def get(self, key: str) -> str | None:
        """Value of a key without the white space around it; None if the key is not there or empty."""
        path = self.path(key)
        if path is None:
            return None
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(Reason.BAD_CONFIGURATION, f"Secret {self.name}, key {key}: too long for a credential")
        try:
            self._read[key] = path.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataError(
                Reason.BAD_CONFIGURATION,
                f"Secret {self.name}, key {key} is not UTF-8 text",
                hint="write the credential as text: kubectl create secret generic --from-literal",
            ) from error
        if SERVICE_ACCOUNT_KEYS <= set(self.keys()) or holds_service_account_token(self._read[key]):
            raise service_account_refused(f"Secret {self.name!r}, key {key}")
        return self._read[key] or None

    def need(self, *keys: str, field: str) -> list[str]:
        """Values of keys that must all be there; else `SecretNotFound`, to be retried, naming the field and the key."""
        values = [self.get(key) for key in keys]
        missing = [key for key, value in zip(keys, values, strict=True) if value is None]
        if missing:
            raise self.missing(" and ".join(missing), field=field)
        return [value for value in values if value is not None]

    def must_name(self, host: str, port: int | None, *, field: str) -> None:
        """Raise `BadConfiguration` unless the Secret says that its credentials are for a host: its key `hosts`."""
        hosts = self.get(HOSTS_KEY)
        if hosts is not None and names_host(hosts, host, port):
            return
        wanted = host if port in (None, HTTPS_PORT) else pair(host, port or 0)
        raise DataError(
            Reason.BAD_CONFIGURATION,
            f"{field}: Secret {self.name!r} does not say that its credentials are for {wanted}: "
            + (f"its key {HOSTS_KEY} does not name it" if hosts else f"it has no key {HOSTS_KEY}"),
            hint=f"whoever may write the Secret adds it: kubectl patch secret {self.name} --type=merge -p "
            f"'{json.dumps({'stringData': {HOSTS_KEY: f'{hosts} {wanted}' if hosts else wanted}})}'",
        )

    def missing(self, keys: str, *, field: str) -> DataError:
        """Say that the Secret or keys of it are not there."""
        there = self.keys()
        what = (
            f"has no key {keys}; it has {', '.join(there[:20])}" if there else "is not in this namespace, or is empty"
        )
        return DataError(
            Reason.SECRET_NOT_FOUND,
            f"{field}: Secret {self.name!r} {what}",
            hint=f"create it with the key {keys}, then have the data prepared again",
            retryable=True,
        )

    def keys(self) -> list[str]:
        """Names of the keys that are there."""
        if self._folder is None or not self._folder.is_dir():
            return []
        return sorted(path.name for path in self._folder.iterdir() if not path.name.startswith("..") and path.is_file())

    def hide(self, text: str) -> str:
        """Take every value that was read, and whatever else looks like a secret, out of a text."""
        for value in sorted(self._read.values(), key=len, reverse=True):
            if len(value) >= _LEAST_MASKED:
                text = text.replace(value, MASK)
        return mask(text)


def service_account_refused(where: str) -> DataError:
    """Say that a credential is one for Kubernetes itself, which is sent to no source of data."""
    return DataError(
        Reason.BAD_CONFIGURATION,
        f"{where} holds the token of a Kubernetes service account, which is sent nowhere",
        hint="use a credential that the source's own server gave out",
    )
