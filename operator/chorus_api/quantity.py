"""Quantities of Kubernetes: amounts as text, such as 500m, 2 or 10Gi."""

from __future__ import annotations

from decimal import Decimal

GIB = 1 << 30
_FACTORS = {"m": Decimal("0.001"), "": Decimal(1)}
_FACTORS |= {suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTP", start=1)}
_FACTORS |= {f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTP", start=1)}


def amount(quantity: str) -> Decimal:
    """The number that a quantity stands for: bytes, or CPUs. ValueError for what the kinds do not take as one."""
    digits = quantity.rstrip("mkKMGTPi")
    factor = _FACTORS.get(quantity.removeprefix(digits))
    if factor is None or not digits.replace(".", "", 1).isdecimal():
        raise ValueError(f"{quantity!r} is not a quantity, such as 500m, 2 or 10Gi")
    return Decimal(digits) * factor


def in_bytes(size: int) -> str:
    """Write a size as a quantity, in Gi or Mi where it comes out even."""
    for unit, suffix in ((GIB, "Gi"), (1 << 20, "Mi")):
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)
