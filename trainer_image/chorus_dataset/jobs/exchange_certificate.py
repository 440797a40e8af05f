"""The certificate that an exchange makes for itself: whoever is told it trusts nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from chorus_pki.certificates import Certificate, issue_self_signed

LIFETIME = timedelta(days=400)


def make_certificate(hosts: Sequence[str], *, now: datetime) -> Certificate:
    """Make a self-signed server certificate for these names, which can sign no other."""
    return issue_self_signed("chorus-exchange", hosts=hosts, now=now, lifetime=LIFETIME)
