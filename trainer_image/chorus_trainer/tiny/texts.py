"""The texts of a request table, and the exercises made from them, none of which pairs a request with its answer."""

from __future__ import annotations

import csv
import json
import random
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from chorus_trainer.frame import Pair

QUERY = "SELECT original_query, suggestions FROM ask_ai_queries WHERE suggestions IS NOT NULL ORDER BY query_id"
SENTINELS = 16
SENTINEL = "<extra_id_{}>"


def read_pairs(path: Path) -> list[Pair]:
    """Requests and their best answers from a .sqlite or .csv with the columns original_query and suggestions.

    `suggestions` is a JSON list of objects with a description and a confidence. Rows without an answer are left out.
    Raises ValueError when no row has one.
    """
    rows: Iterable[tuple[str, str]]
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(row["original_query"], row["suggestions"]) for row in csv.DictReader(file)]
    else:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute(QUERY).fetchall()
    pairs = [Pair(query, best) for query, suggestions in rows if query and (best := _best(suggestions))]
    if not pairs:
        raise ValueError(f"{path} has no row with a request and a suggestion")
    return pairs


def _best(suggestions: str | None) -> str | None:
    try:
        found: list[dict[str, Any]] = json.loads(suggestions or "[]")
        return str(max(found, key=lambda one: float(one["confidence"]))["description"]) if found else None
    except (ValueError, TypeError, KeyError):
        return None


def exercises(pairs: Sequence[Pair], *, count: int, seed: int, denoise: bool) -> list[Pair]:
    """Things to learn from single texts: repeat one, complete one and, with `denoise`, fill the gaps of one.

    The texts are shuffled among themselves first, so that no order ties a request to its answer.
    """
    chance = random.Random(seed)
    texts = sorted({text for pair in pairs for text in (pair.prompt, pair.response)})
    kinds = [_repeat, _complete, _fill, _fill] if denoise else [_repeat, _complete]
    return [kinds[number % len(kinds)](chance.choice(texts), chance) for number in range(count)]


def _repeat(text: str, chance: random.Random) -> Pair:
    return Pair(f"Repeat: {text}", text)


def _complete(text: str, chance: random.Random) -> Pair:
    words = text.split(" ")
    cut = chance.randint(1, max(1, len(words) - 1))
    return Pair(f"Continue: {' '.join(words[:cut])}", " ".join(words[cut:]) or text)


def _fill(text: str, chance: random.Random) -> Pair:
    """Span corruption as T5's: about one word in five is hidden, in spans of up to three."""
    words = text.split(" ")
    shown: list[str] = []
    hidden: list[str] = []
    at = spans = 0
    while at < len(words):
        if spans < SENTINELS and chance.random() < 0.12:
            length = chance.randint(1, 3)
            mark = SENTINEL.format(spans)
            shown.append(mark)
            hidden += [mark, *words[at : at + length]]
            at, spans = at + length, spans + 1
        else:
            shown.append(words[at])
            at += 1
    if not spans:
        return Pair(SENTINEL.format(0), f"{SENTINEL.format(0)} {text}")
    return Pair(" ".join(shown), " ".join(hidden))
