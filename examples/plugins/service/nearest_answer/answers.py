"""Learn answers by heart, and find the one of the most similar request: words weighted by how rare they are."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

_WORD = re.compile(r"\w+")
Pair = tuple[str, str]
"""A request and its answer."""


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.casefold())


@dataclass(frozen=True)
class Answers:
    """What was learned: the pairs, how rare each word is, and which pairs hold it with which weight."""

    pairs: Sequence[Pair]
    rarity: dict[str, float]
    holders: dict[str, list[tuple[int, float]]]

    @classmethod
    def learned(cls, pairs: Sequence[Pair]) -> Answers:
        """Learn the pairs."""
        bags = [Counter(words(request)) for request, _ in pairs]
        in_how_many = Counter(word for bag in bags for word in bag)
        rarity = {word: math.log(1 + len(pairs) / count) for word, count in in_how_many.items()}
        holders: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, bag in enumerate(bags):
            for word, weight in _weights(bag, rarity).items():
                holders[word].append((number, weight))
        return cls(pairs, rarity, dict(holders))

    def to(self, request: str, *, neighbours: int) -> str:
        """The answer that the most similar requests have in common; the commonest one when none is similar."""
        likeness: dict[int, float] = defaultdict(float)
        for word, weight in _weights(Counter(words(request)), self.rarity).items():
            for number, other in self.holders.get(word, ()):
                likeness[number] += weight * other
        nearest = sorted(likeness, key=lambda number: (-likeness[number], number))[:neighbours]
        votes: dict[str, float] = defaultdict(float)
        for number in nearest:
            votes[self.pairs[number][1]] += likeness[number]
        return max(votes, key=lambda answer: votes[answer]) if votes else self.commonest

    @property
    def commonest(self) -> str:
        """The answer that most requests have."""
        return Counter(answer for _, answer in self.pairs).most_common(1)[0][0]


def _weights(bag: Counter[str], rarity: dict[str, float]) -> dict[str, float]:
    """How much each known word says, so that the squares add up to 1."""
    told = {word: count * rarity[word] for word, count in bag.items() if word in rarity}
    length = math.sqrt(sum(weight * weight for weight in told.values()))
    return {word: weight / length for word, weight in told.items()} if length else {}


def likeness(told: str, wanted: str) -> float:
    """How many words two answers share, 0 to 1: the F1 of told words."""
    first, second = Counter(words(told)), Counter(words(wanted))
    shared = sum((first & second).values())
    return 2 * shared / (sum(first.values()) + sum(second.values())) if shared else 0.0


def judged(
    answers: Answers, held_back: Sequence[Pair], *, neighbours: int, progress: Callable[[int, int], None]
) -> dict[str, float]:
    """Figures on pairs that were not learned: mean likeness, that of always saying the commonest answer, exact ones."""
    if not held_back:
        return {}
    commonest, found, guessed, exact = answers.commonest, [], [], 0
    for done, (request, wanted) in enumerate(held_back, start=1):
        told = answers.to(request, neighbours=neighbours)
        found.append(likeness(told, wanted))
        guessed.append(likeness(commonest, wanted))
        exact += told == wanted
        progress(done, len(held_back))
    return {"word_f1": fmean(found), "majority_word_f1": fmean(guessed), "exact": exact / len(held_back)}
