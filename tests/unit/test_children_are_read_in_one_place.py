"""Whoever reads a child looks whose it is: one module does, and nobody else reads objects of these kinds by name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

OPERATOR = Path(__file__).parents[2] / "operator" / "chorus_operator"
READERS = {OPERATOR / "reconcile" / "children.py", OPERATOR / "reconcile" / "stores.py"}
"""Where children are read: the second passes on what is known, or reads it, for the first."""
LAYERS = ("reconcile", "messages", "services")
NO_CHILDREN = {"PROJECTS", "PLUGINS", "TRAINING_RUNS", "PODS", "ENDPOINT_SLICES", "NAMESPACES"}
"""Kinds that are read by name anywhere: what users or the cluster make, and pods (`children.read_pods` looks whose)."""


def reads(tree: ast.AST) -> list[tuple[int, str]]:
    """Find calls of `get` of a client, with the kind that each reads."""
    return [
        (node.lineno, ast.unparse(node.args[0]))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "get"
        and node.args
        and {"namespace", "name"} & {keyword.arg for keyword in node.keywords}
    ]


@pytest.mark.parametrize("layer", LAYERS)
def test_only_one_module_reads_children_by_name(layer: str) -> None:
    found = [
        f"{path.relative_to(OPERATOR)}:{line}: get({kind}, …): use reconcile.children"
        for path in sorted((OPERATOR / layer).rglob("*.py"))
        if path not in READERS
        for line, kind in reads(ast.parse(path.read_text(encoding="utf-8")))
        if kind not in NO_CHILDREN
    ]
    assert found == []


def test_the_search_finds_reads_of_children_in_every_form() -> None:
    source = (
        "async def f(): await kube.get(JOBS, namespace=n, name=m); await self._kube.get(of(x), namespace=n, name=m)"
    )
    assert [kind for _, kind in reads(ast.parse(source))] == ["JOBS", "of(x)"]
    assert all(reads(ast.parse(path.read_text(encoding="utf-8"))) for path in READERS)
