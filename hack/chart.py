"""Write what the chart repeats: values, their schema and table, the CRDs, the rules of roles, the version.

    PYTHONPATH=operator:hack python hack/chart.py [DIRECTORY]

Values come from hack/chart_values.py, CRDs from crds/, rules and admission policies from deploy/, the version from
pyproject.toml. A test compares.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from chart_values import Values

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 110
BEGIN, END = "<!-- values: written by hack/chart.py -->", "<!-- end of values -->"
KINDS = ("projects", "plugins", "trainingruns")
CLUSTER_SCOPED = {"tokenreviews"}
MARK = "Written by hack/chart.py"

# values.yaml


def values_yaml() -> str:
    """Every value with its default and what it means."""
    head = f"# {MARK} from hack/chart_values.py. Do not edit: run `make generate`.\n"
    return head + "".join(_commented(Values(), indent=0))


def _commented(model: BaseModel, *, indent: int) -> Iterator[str]:
    blank = "\n" if indent == 0 else ""
    for key, value, description in _fields(model):
        margin = " " * indent
        lines = textwrap.wrap(description, WIDTH - indent, break_on_hyphens=False)
        yield blank + "".join(f"{margin}# {line}\n" for line in lines)
        if _is_section(value):
            yield f"{margin}{key}:\n"
            yield from _commented(value, indent=indent + 2)
        else:
            yield f"{margin}{key}: {json.dumps(_plain(value), ensure_ascii=False)}\n"


def _fields(model: BaseModel) -> Iterator[tuple[str, Any, str]]:
    for name, field in type(model).model_fields.items():
        if not field.description:
            raise ValueError(f"hack/chart_values.py: {type(model).__name__}.{name} has no description")
        yield field.alias or name, getattr(model, name), field.description


def _is_section(value: object) -> bool:
    """Whether a value has keys with descriptions of their own."""
    return isinstance(value, BaseModel) and any(field.description for field in type(value).model_fields.values())


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(by_alias=True, exclude_none=True)
    return value


# values.schema.json


def schema() -> str:
    """The JSON schema that Helm checks values by."""
    made = _trimmed(Values.model_json_schema(by_alias=True))
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$comment": f"{MARK}. Do not edit.", **made}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _trimmed(node: Any) -> Any:
    """Without what people need not read: titles, repeated defaults, and null, which Helm takes out of values itself."""
    if isinstance(node, list):
        return [_trimmed(each) for each in node]
    if not isinstance(node, dict):
        return node
    if "anyOf" in node:
        [one] = [each for each in node["anyOf"] if each != {"type": "null"}]
        return _trimmed({key: value for key, value in node.items() if key not in {"anyOf", "default"}} | one)
    trimmed = {key: value for key, value in node.items() if key != "default" and not _is_title(key, value)}
    return {
        key: {name: _trimmed(each) for name, each in value.items()}
        if key in {"properties", "$defs"}
        else _trimmed(value)
        for key, value in trimmed.items()
    }


def _is_title(key: str, value: object) -> bool:
    return key == "title" and isinstance(value, str)


# README.md


def readme(text: str) -> str:
    """The chart's README with its table of values as it is now. Raises ValueError when its two marks are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"charts/chorus/README.md: put {BEGIN} and {END} around the table of values")
    rows = ["| value | default | meaning |", "| --- | --- | --- |", *_rows(Values(), prefix="")]
    return "\n".join([before + BEGIN, *rows, END + after])


def _rows(model: BaseModel, *, prefix: str) -> Iterator[str]:
    for key, value, description in _fields(model):
        if _is_section(value):
            yield from _rows(value, prefix=f"{prefix}{key}.")
        else:
            default = json.dumps(_plain(value), ensure_ascii=False)
            yield f"| `{prefix}{key}` | `{default}` | {description.replace('|', chr(92) + '|')} |"


# templates


def crd_template(plural: str) -> str:
    """A CRD as a template: switched by `crds.enabled`, kept by `crds.keep`, with the chart's labels."""
    lines = (ROOT / "crds" / f"{plural}.yaml").read_text(encoding="utf-8").splitlines()
    body = "\n".join(line for line in lines if not line.startswith("#")).replace("{{", '{{ "{{" }}')
    metadata = f"metadata:\n  name: {plural}.chorus.dev\n"
    if metadata not in body + "\n":
        raise ValueError(f"crds/{plural}.yaml: its metadata is not the name alone")
    added = (
        '  labels:\n    {{- include "chorus.labels" . | nindent 4 }}\n'
        "  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n"
    )
    made = (body + "\n").replace(metadata, metadata + added, 1)
    head = f"{{{{- /* {MARK} from crds/{plural}.yaml. Do not edit. */ -}}}}\n{{{{- if .Values.crds.enabled }}}}\n"
    return f"{head}{made}{{{{- end }}}}\n"


def rules() -> str:
    """The rules of all roles, as named templates, from the plain manifests."""
    named = {
        "chorus.rules.work": _role("rbac.yaml", "ClusterRole", "chorus-operator"),
        "chorus.rules.own": _role("rbac.yaml", "Role", "chorus-operator"),
        "chorus.rules.apiServer": _role("rbac.yaml", "Role", "chorus-operator-api-server"),
        "chorus.rules.view": _role("user-roles.yaml", "ClusterRole", "chorus-view"),
        "chorus.rules.edit": _role("user-roles.yaml", "ClusterRole", "chorus-edit"),
    }
    parts = [f"{{{{- /* {MARK} from deploy/rbac.yaml and deploy/user-roles.yaml. Do not edit. */ -}}}}\n"]
    for name, role in named.items():
        parts.append(f'{{{{- define "{name}" }}}}\n' + "".join(_rule(rule) for rule in role) + "{{- end }}\n")
    return "".join(parts)


def _role(file: str, kind: str, name: str) -> list[Mapping[str, list[str]]]:
    for manifest in yaml.safe_load_all((ROOT / "deploy" / file).read_text(encoding="utf-8")):
        if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name):
            found: list[Mapping[str, list[str]]] = manifest["rules"]
            return found
    raise ValueError(f"deploy/{file} has no {kind} {name}")


def _rule(rule: Mapping[str, list[str]]) -> str:
    """One rule; one about objects outside namespaces is for ClusterRoles only."""
    text = "".join(
        f"{'- ' if number == 0 else '  '}{key}: {json.dumps(values)}\n"
        for number, (key, values) in enumerate(rule.items())
    )
    if not set(rule.get("resources", ["?"])) <= CLUSTER_SCOPED:
        return text
    return f'{{{{- if eq .Values.rbac.scope "Cluster" }}}}\n{text}{{{{- end }}}}\n'


def admission_policy() -> str:
    """The admission policies as a template: for the release's account, in cluster scope, where they are served."""
    source = "deploy/admission-policy.yaml"
    text = (ROOT / source).read_text(encoding="utf-8")
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    account = "system:serviceaccount:chorus-system:chorus-operator"
    name = re.compile(r"^  name: chorus-operator(-[a-z]+)$", re.MULTILINE)
    if body.count(account) != len(name.findall(body)) / 2:
        raise ValueError(
            f"{source}: each policy and its binding are named chorus-operator-…, and each policy names {account}"
        )
    body = name.sub(
        r'  name: {{ include "chorus.operator" . }}\1\n  labels:\n    {{- include "chorus.labels" . | nindent 4 }}',
        body,
    )
    body = body.replace("policyName: chorus-operator-", 'policyName: {{ include "chorus.operator" . }}-').replace(
        account, 'system:serviceaccount:{{ .Release.Namespace }}:{{ include "chorus.serviceAccount" . }}'
    )
    wanted = 'and .Values.admissionPolicy.enabled (eq .Values.rbac.scope "Cluster") (include "chorus.servesPolicies" .)'
    head = f"{{{{- /* {MARK} from {source}. Do not edit. */ -}}}}\n{{{{- if {wanted} }}}}\n"
    return f"{head}{body}{{{{- end }}}}\n"


def chart_yaml(text: str) -> str:
    """Chart.yaml with the version of pyproject.toml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    text = re.sub(r"(?m)^version: .*$", f"version: {version}", text)
    return re.sub(r"(?m)^appVersion: .*$", f'appVersion: "{version}"', text)


def files(chart: Path) -> dict[str, str]:
    """What is written, by path inside the chart."""
    written = {
        "values.yaml": values_yaml(),
        "values.schema.json": schema(),
        "README.md": readme((chart / "README.md").read_text(encoding="utf-8")),
        "Chart.yaml": chart_yaml((chart / "Chart.yaml").read_text(encoding="utf-8")),
        "templates/_rules.tpl": rules(),
        "templates/admission-policy.yaml": admission_policy(),
    }
    return written | {f"templates/crds/{plural}.yaml": crd_template(plural) for plural in KINDS}


def main(chart: Path) -> None:
    """Write the files into a copy of the chart."""
    for path, text in files(chart).items():
        (chart / path).parent.mkdir(parents=True, exist_ok=True)
        (chart / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "charts" / "chorus")
