"""Nothing in the repository loads a model in a way that lets the model bring code."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("operator", "trainer_image", "examples", "benchmarks", "hack")
LOADERS = {"from_pretrained", "from_config"}
UNPICKLERS = {"torch", "pickle", "joblib", "dill", "cloudpickle"}
WITHOUT_CODE = {"PeftModel"}
"""Classes whose loader knows no code of a model's own, and takes no such argument."""


@functools.cache
def _calls(path: Path) -> tuple[ast.Call, ...]:
    """The calls of methods, and of functions of modules, in a file that names what would be called."""
    source = path.read_text(encoding="utf-8")
    if not any(name in source for name in LOADERS | UNPICKLERS):
        return ()  # most files: to parse them all takes more than a second
    tree = ast.parse(source, str(path))
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _sources() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py"))


def _loads() -> Iterator[tuple[str, ast.Call]]:
    for path in _sources():
        for call in _calls(path):
            function = call.func
            if isinstance(function, ast.Attribute) and function.attr in LOADERS:
                if _name(function.value) not in WITHOUT_CODE:
                    yield f"{path.relative_to(REPOSITORY)}:{call.lineno}", call


def test_every_call_that_loads_a_model_refuses_code_of_the_models_own() -> None:
    found = dict(_loads())
    assert len(found) >= 3, "the trainer's own calls are not found any more"
    open_to_code = [where for where, call in found.items() if not _refuses(call)]
    assert not open_to_code, f"pass trust_remote_code=False: {open_to_code}"


def _refuses(call: ast.Call) -> bool:
    given = {word.arg: word.value for word in call.keywords}
    value = given.get("trust_remote_code")
    return isinstance(value, ast.Constant) and value.value is False


def test_nothing_is_unpickled() -> None:
    unpickling = [
        f"{path.relative_to(REPOSITORY)}:{call.lineno}"
        for path in _sources()
        for call in _calls(path)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("load", "loads")
        and _name(call.func.value) in UNPICKLERS
    ]
    assert not unpickling, f"read weights from safetensors: {unpickling}"
