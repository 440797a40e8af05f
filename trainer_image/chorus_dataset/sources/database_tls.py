"""The authority that a database is known by: what the driver is told of it, and what its refusals mean.

A certificate of an authority that nobody checks is worse than none, since its owner believes in it. So with one, an
address that would let the driver go on without a look at it is refused.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.engine import URL

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.sources.secret import SourceSecret

CA_FIELD = "spec.dataset.source.sql.caSecretKeyRef"
_FULL = "verify-full"
_CHECKED = (_FULL, "verify-ca", "require")
"""With certificates at hand the driver checks the server's under `require` too, but not its host name."""
_UNCHECKED = ("disable", "allow", "prefer")
_DISTRUST = {
    "does not match host name": f"name the database in the address by a host name of its certificate; or say "
    f"sslmode=verify-ca there, if the authority of {CA_FIELD} signs for nobody else",
    "could not get server's host name": "have the certificate made with the database's host name in it, or say "
    "sslmode=verify-ca in the address",
    "certificate verify failed": f"put the certificate of the authority that signed the database's own into the key "
    f"of {CA_FIELD}, with those between them; see too whether the database's certificate has expired",
}
"""By what the driver says."""
_NO_TLS = "does not support SSL"


def read_ca(key: str, *, secret: SourceSecret) -> Path:
    """Give the file with the authority's certificates once it is seen to hold some.

    Raises `DataError`: SecretNotFound, and BadConfiguration for what is no certificate.
    """
    try:
        [text] = secret.need(key, field=CA_FIELD)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except ssl.SSLError as error:
        raise _no_certificates(key, secret) from error
    except DataError as error:
        # A certificate in the binary form is no text.
        raise (_no_certificates(key, secret) if error.reason is Reason.BAD_CONFIGURATION else error) from error
    path = secret.path(key)
    assert path is not None
    return path


def _no_certificates(key: str, secret: SourceSecret) -> DataError:
    return DataError(
        Reason.BAD_CONFIGURATION,
        f"{CA_FIELD}: key {key} of Secret {secret.name!r} holds no certificates that can be read",
        hint="it must be one or more certificates in PEM: -----BEGIN CERTIFICATE-----",
    )


def tls_options(url: URL, *, ca: Path | None, where: str) -> dict[str, str]:
    """What the driver is told of TLS beyond what the address says; BadConfiguration where the two do not fit."""
    mode, outside = url.query.get("sslmode", _FULL if ca else ""), url.query.get("gssencmode", "disable")
    if ca is None:
        if mode in ("verify-ca", _FULL):
            raise DataError(
                Reason.BAD_CONFIGURATION,
                f"{where}: sslmode={mode} needs the certificate of the authority that signed the database's own",
                hint=f"name the Secret and key that hold it: {CA_FIELD}",
            )
        return {}
    if mode not in _CHECKED:
        setting = f"sslmode={mode}" if mode in _UNCHECKED else "an sslmode that is not known"
        raise _contradiction(setting, where=where)
    if outside != "disable":
        raise _contradiction("a gssencmode other than disable", where=where)
    return {"sslmode": str(mode), "sslrootcert": str(ca), "gssencmode": "disable"}


def _contradiction(setting: str, *, where: str) -> DataError:
    return DataError(
        Reason.BAD_CONFIGURATION,
        f"{CA_FIELD} is set, but the address in {where} says {setting}: the database's certificate would not be "
        "checked",
        hint=f"remove the parameter from the address (then it is sslmode={_FULL}), or remove {CA_FIELD}",
    )


def distrust(said: str, *, where: str, words: Callable[[str], str]) -> DataError | None:
    """Tell a database that is not trusted from one that is not there, by what the driver says of all its addresses.

    `words` makes a line of it fit to be shown. None for any other trouble.
    """
    for line in (line.strip() for line in said.splitlines()):
        for sign, hint in _DISTRUST.items():
            if sign in line:
                return DataError(
                    Reason.SOURCE_UNREACHABLE,
                    f"{where}: the certificate of the database is not trusted: {words(line)}",
                    hint=hint,
                )
        if _NO_TLS in line:
            return DataError(
                Reason.SOURCE_UNREACHABLE,
                f"{where}: the database does not speak TLS: {words(line)}",
                hint=f"turn TLS on in the database; or remove {CA_FIELD} and sslmode, if the network may be trusted",
            )
    return None
