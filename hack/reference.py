"""Write what the code knows better than people: docs/reference.md, and the table of defaults in docs/lora.md.

    PYTHONPATH=operator python hack/reference.py

The fields come from crds/*.yaml, the defaults from chorus_api.lora. A test compares both files with what this writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from chorus_api.lora import DEFAULTS, ResolvedLora

DOCS = Path(__file__).resolve().parents[1] / "docs"
CRDS = DOCS.parent / "crds"
KINDS = ("projects", "plugins", "trainingruns")
LORA_LINK = "The fields are those of [Plugin `spec.lora`](#plugin-spec); values here win over those of {below}."
BELOW = {"Project": "the Plugin", "TrainingRun": "the Project and the Plugin"}
BEGIN, END = "<!-- defaults: written by reference.py -->", "<!-- end of defaults -->"
HEAD = """# Reference: every field

Written by `hack/reference.py` from the files in `crds/`. Do not edit.

`[]` stands for each item of a list, `{}` for each value of a map. A field of a spec without a default and without
"required" may be left out. `kubectl explain` shows the same text, for example `kubectl explain cproj.spec.dataset`.

**Numbers in quotes.** A field of type string takes a string, also where the string is a number:
`learningRate: "5e-5"`, `evalFraction: "0.1"`, `cpu: "2"`, `info: {year: "2026"}`, `env: [{name: WORKERS, value: "4"}]`.
Without quotes, YAML makes a number of it, or a boolean of `true`, and the API server answers
`spec.dataset.info.year in body must be of type string: "integer"`. `parameters` take integers, without quotes, and
strings: decimals, `"true"` and `"false"` in quotes.
"""

Schema = Mapping[str, Any]


def definition(plural: str) -> dict[str, Any]:
    """Read a CustomResourceDefinition."""
    loaded: dict[str, Any] = yaml.load((CRDS / f"{plural}.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    return loaded


def reference() -> str:
    """The whole of reference.md."""
    lora = _part(definition("plugins"), "spec")["properties"]["lora"]["properties"]
    sections = [_kind(definition(plural), lora=lora) for plural in KINDS]
    return "\n".join([HEAD, *sections])


def _part(crd: Schema, name: str) -> dict[str, Any]:
    part: dict[str, Any] = _schema(crd)["properties"][name]
    return part


def _schema(crd: Schema) -> dict[str, Any]:
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _kind(crd: Schema, *, lora: Schema) -> str:
    names, version = crd["spec"]["names"], crd["spec"]["versions"][0]
    columns = version["additionalPrinterColumns"]
    shown = [f"{column['name'].upper()}" for column in columns if not column.get("priority")]
    wide = [f"{column['name'].upper()}" for column in columns if column.get("priority")]
    selectable = [f"`{field['jsonPath'].removeprefix('.')}`" for field in version.get("selectableFields", ())]
    lines = [
        f"## {names['kind']}",
        "",
        f"{_schema(crd)['description']} `{names['plural']}.{crd['spec']['group']}`, short name "
        f"`{names['shortNames'][0]}`, version `{version['name']}`.",
        "",
        *(f"* The name {rule['message']}." for rule in _name_rules(crd)),
        f"* Columns of `kubectl get`: {', '.join(shown)}"
        + (f"; with `-o wide` also {', '.join(wide)}." if wide else "."),
        f"* Field selectors (`kubectl get {names['shortNames'][0]} --field-selector`): {', '.join(selectable)}.",
        "",
    ]
    for part in ("spec", "status"):
        lines += _table(names["kind"], part, _part(crd, part), lora=lora if names["kind"] in BELOW else {})
    return "\n".join(lines)


def _name_rules(crd: Schema) -> list[dict[str, str]]:
    return [
        {"message": rule["message"].removeprefix("metadata.name ").removeprefix("name ")}
        for rule in _schema(crd).get("x-kubernetes-validations", ())
    ]


def _table(kind: str, part: str, schema: Schema, *, lora: Schema) -> list[str]:
    rows, rules = [], [(part, rule) for rule in _object_rules(schema)]
    for path, field, required in _fields(part, schema, lora=lora):
        shown = [f"`{path}`", _type(field), _default(field, required=required), _cell(_described(field))]
        if _is_lora(field, lora):
            shown[3] += f" {LORA_LINK.format(below=BELOW[kind])}"
        else:
            rules += [(path, rule) for rule in _object_rules(field)]
        rows.append(shown)
    heads = ["field", "type", "default", "what it is"]
    if part == "status":  # the operator writes it: nobody has to give anything, and nothing is filled in
        heads, rows = _without_default(heads), [_without_default(row) for row in rows]
    table = [f"### {kind} {part}", "", *(_row(cells) for cells in [heads, ["---"] * len(heads), *rows]), ""]
    if rules and part == "spec":
        table += ["What the API server checks beside types and bounds:", ""]
        table += [f"* `{path}`: {rule}" for path, rule in rules] + [""]
    return table


def _without_default(cells: list[str]) -> list[str]:
    return [*cells[:2], *cells[3:]]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _is_lora(field: Schema, lora: Schema) -> bool:
    return bool(lora) and field.get("properties") == lora


def _fields(path: str, schema: Schema, *, lora: Schema) -> Iterator[tuple[str, Schema, bool]]:
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield here, field, name in schema.get("required", ())
        if _is_lora(field, lora):
            continue
        yield from _fields(here, field, lora=lora)
        if isinstance(field.get("items"), dict):
            yield from _fields(f"{here}[]", field["items"], lora=lora)
        if isinstance(field.get("additionalProperties"), dict):
            yield from _fields(f"{here}{{}}", field["additionalProperties"], lora=lora)


def _object_rules(field: Schema) -> list[str]:
    if field.get("type") not in ("object", "array"):
        return []
    return [rule["message"] for rule in field.get("x-kubernetes-validations", ())]


def _described(field: Schema) -> str:
    text = str(field.get("description", ""))
    if field.get("type") != "string":
        return text
    musts = [f"It {rule['message']}." for rule in field.get("x-kubernetes-validations", ())]
    return " ".join([text, *musts])


def _type(field: Schema) -> str:
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    kind = field["type"]
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if kind == "integer":
        return "integer" + _range(field, "minimum", "maximum", unit="")
    if kind == "string":
        if field.get("format") == "date-time":
            return "time"
        return "string" + _range(field, "minLength", "maxLength", unit=" characters")
    if kind == "array":
        return f"list of {_inner(field['items'])}" + _range(field, "minItems", "maxItems", unit=" items")
    if kind == "object" and "additionalProperties" in field:
        values = _inner(field["additionalProperties"])
        return f"map to {values}" + _range(field, "minProperties", "maxProperties", unit=" entries")
    return str(kind)


def _inner(field: Schema) -> str:
    kind, comma, bounds = _type(field).partition(", ")
    return f"{kind} ({bounds})" if comma else kind


def _range(field: Schema, low: str, high: str, *, unit: str) -> str:
    least, most = field.get(low), field.get(high)
    if least is not None and most is not None:
        return f", {least:,} to {most:,}{unit}" if least != most else f", {least:,}{unit}"
    if most is not None:
        return f", at most {most:,}{unit}"
    return f", {least:,}{unit} or more" if least is not None else ""


def _default(field: Schema, *, required: bool) -> str:
    if required:
        return "**required**"
    if "default" not in field or field["default"] == {}:
        return ""
    return f"`{json.dumps(field['default'])}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def defaults() -> str:
    """The table of defaults: a row a parameter, a column for each profile and model family."""
    families = {"encoderDecoder": "encoder-decoder", "decoder": "decoder"}
    heads = ["parameter", *(f"{profile}, {families[family]}" for profile, family in DEFAULTS)]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for name, field in ResolvedLora.model_fields.items():
        if name == "profile":
            continue
        values = [getattr(row, name) for row in DEFAULTS.values()]
        lines.append(_row([f"`{field.alias or name}`", *(_value(value) for value in values)]))
    return "\n".join(lines)


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def with_defaults(text: str) -> str:
    """`text` of lora.md with the table of defaults as it is now. Raises ValueError when its two marks are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"docs/lora.md: the marks {BEGIN} and {END} are missing: put them around the table of defaults"
        )
    return f"{before}{BEGIN}\n{defaults()}\n{END}{after}"


def main() -> None:
    """Write both files."""
    (DOCS / "reference.md").write_text(reference(), encoding="utf-8")
    lora = DOCS / "lora.md"
    lora.write_text(with_defaults(lora.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
