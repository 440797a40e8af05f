"""A plugin type lives in one folder: nothing else of the operator asks for the type of a plugin or of a run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from chorus_api.run_config import FrozenRun
from chorus_operator.plugin_types.registry import PLUGIN_TYPES

OPERATOR = Path(__file__).parents[2] / "operator" / "chorus_operator"
FOLDERS = OPERATOR / "plugin_types"
BLOCKS = {"lora", "container", "service", "script"}
"""Fields of a spec that one type alone has."""
MODELS = {"LoraParameters", "LoraScript", "BaseModelSource", "ContainerPlugin", "ServicePlugin", "FrozenBaseModel"}
MODELS |= {each.config.__name__ for each in PLUGIN_TYPES.values()}
"""Their models in chorus_api, and those of run.json."""


def findings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Find what only one who knows the types can write."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.alias(name=name) | ast.Attribute(attr=name) if name in MODELS:
                yield node.lineno, name
            case ast.Attribute(value=ast.Attribute(attr="spec") | ast.Name(id="spec" | "entry"), attr=field):
                if field in BLOCKS:
                    yield node.lineno, f"spec.{field}"
            case ast.Compare() | ast.MatchValue():
                for each in ast.walk(node):
                    if isinstance(each, ast.Constant) and each.value in PLUGIN_TYPES:
                        yield node.lineno, f"type {each.value!r}"
            case ast.Dict(keys=keys):
                if {key.value for key in keys if isinstance(key, ast.Constant)} >= set(PLUGIN_TYPES):
                    yield node.lineno, "a table of types"


def test_nothing_outside_its_folder_knows_a_plugin_type() -> None:
    found = [
        f"{path.relative_to(OPERATOR)}:{line}: {what}: ask the plugin type"
        for path in sorted(OPERATOR.rglob("*.py"))
        if FOLDERS not in path.parents
        for line, what in findings(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "from chorus_api.run_config import ContainerConfig",
        "isinstance(view.accepted.config, ServiceConfig)",
        "image = plugin.spec.container.image",
        "fields = entry.lora",
        "if plugin.spec.type == 'lora': pass",
        "match plugin.spec.type:\n    case 'service': pass",
        "TABLE = {'lora': 1, 'container': 2, 'service': 3}",
    ],
)
def test_what_knows_a_type_is_found(text: str) -> None:
    assert list(findings(ast.parse(text)))


def test_each_type_has_a_folder_of_its_name_and_a_configuration_that_says_so() -> None:
    folders = {path.name for path in FOLDERS.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(PLUGIN_TYPES)
    for name, each in PLUGIN_TYPES.items():
        assert issubclass(each.config, FrozenRun)
        assert each.config.model_fields["type"].default == each.name == name
