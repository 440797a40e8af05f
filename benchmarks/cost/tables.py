"""What is printed: Markdown tables, as in benchmarks/README.md."""

from __future__ import annotations

from collections.abc import Mapping

from cost.figures import Cost, ratio


def of_lines(lines: Mapping[str, Cost]) -> str:
    """One row for each line; the first is what the others are compared with."""
    first = next(iter(lines.values()))
    heads = ["CPU, ms each", *first.cpu, "all", "ratio", "requests", "of the operator", "ended"]
    rows = [_row(heads), "| --- |" + " ---: |" * (len(heads) - 2) + " --- |"]
    for name, cost in lines.items():
        cpu = [f"{1000 * seconds:.1f}" for seconds in cost.each(cost.cpu).values()]
        requests = [f"{sum(cost.each(counts).values()):.1f}" for counts in (cost.served, cost.asked)]
        rows.append(_row([name, *cpu, f"{cost.ms:.1f}", f"{ratio(cost.ms, first.ms):.2f}", *requests, _ends(cost)]))
    return "\n".join(rows)


def of_requests(title: str, counts: Mapping[str, Mapping[str, float]]) -> str:
    """One row for each verb and resource; `counts`: for each, by column."""
    rows = [_row([title, *counts]), "| --- |" + " ---: |" * len(counts)]
    for what in sorted({what for each in counts.values() for what in each}):
        rows.append(_row([what, *(f"{each.get(what, 0):.1f}" for each in counts.values())]))
    rows.append(_row(["all", *(f"{sum(each.values()):.1f}" for each in counts.values())]))
    return "\n".join(rows)


def of_threads(lines: Mapping[str, Cost]) -> str:
    """CPU of the operator's threads, a row for each that has used any."""
    each = {name: cost.each(cost.threads) for name, cost in lines.items()}
    rows = [_row(["thread of the operator, ms each", *each]), "| --- |" + " ---: |" * len(each)]
    for thread in sorted({thread for threads in each.values() for thread in threads}):
        rows.append(_row([thread, *(f"{1000 * threads.get(thread, 0):.1f}" for threads in each.values())]))
    return "\n".join(rows)


def _ends(cost: Cost) -> str:
    return ", ".join(f"{number} {how}" for how, number in sorted(cost.ends.items()))


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
