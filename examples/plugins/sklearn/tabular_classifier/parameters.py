"""The parameters: declared once, told to Chorus with ONLINE_REPORT, and checked again when a run starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tabular_classifier.faults import BadConfiguration

SCHEMA: Mapping[str, Any] = {
    "properties": {
        "model": {
            "type": "string",
            "enum": ["logistic", "forest"],
            "default": "logistic",
            "description": "logistic: regression with a penalty. forest: a forest of decision trees.",
        },
        "candidates": {
            "type": "integer",
            "minimum": 1,
            "maximum": 12,
            "default": 5,
            "description": "How many strengths of the model are tried, from the simplest on; the best one is kept.",
        },
        "folds": {
            "type": "integer",
            "minimum": 2,
            "maximum": 20,
            "default": 5,
            "description": "Parts of the training rows; each is predicted once by what the others teach.",
        },
        "trees": {
            "type": "integer",
            "minimum": 1,
            "maximum": 2000,
            "default": 100,
            "description": "Trees of a forest. More are slower, and steadier.",
        },
        "class_weights": {
            "type": "string",
            "enum": ["none", "balanced"],
            "default": "none",
            "description": "balanced: rare classes count as much as frequent ones.",
        },
        "seed": {
            "type": "integer",
            "minimum": 0,
            "maximum": 2**31 - 1,
            "default": 0,
            "description": "Decides the folds and the forest: equal seeds give equal models.",
        },
    },
    "required": [],
}


@dataclass(frozen=True)
class Parameters:
    """What a run trains with."""

    model: str
    candidates: int
    folds: int
    trees: int
    class_weights: str
    seed: int


def defaults() -> dict[str, Any]:
    """Every parameter's value when nobody sets it."""
    return {name: rule["default"] for name, rule in SCHEMA["properties"].items()}


def checked(given: Mapping[str, Any]) -> Parameters:
    """Lay what was given over the defaults. Raises BadConfiguration that names the parameter and what it may be.

    Chorus checks the same before a run starts; a plugin that is run without it does not know that.
    """
    rules = SCHEMA["properties"]
    for name, value in given.items():
        if name not in rules:
            raise BadConfiguration(f"parameters.{name}: there is no such parameter; there are {', '.join(rules)}")
        if (wanted := _wanted(value, rules[name])) is not None:
            raise BadConfiguration(f"parameters.{name}: {value!r} is not {wanted}")
    return Parameters(**defaults() | dict(given))


def _wanted(value: object, rule: Mapping[str, Any]) -> str | None:
    """Say what the value should be; None when it is right."""
    if rule["type"] == "string":
        return None if value in rule["enum"] else f"one of {', '.join(rule['enum'])}"
    least, most = rule["minimum"], rule["maximum"]
    right = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    return None if right else f"a whole number from {least} to {most}"
