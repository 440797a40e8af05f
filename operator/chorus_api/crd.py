"""Generate the CustomResourceDefinitions of the three kinds: `python -m chorus_api.crd --out crds`.

What users see of a kind beside its fields stands here: names, the rules for names, printer columns, selectable fields.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chorus_api.base import GROUP, VERSION, Rule, StatusModel
from chorus_api.base import Model as SpecModel
from chorus_api.crd_schema import status_schema, structural_schema, validation
from chorus_api.plugin import PluginSpec, PluginStatus
from chorus_api.project import ProjectSpec, ProjectStatus
from chorus_api.training_run import TrainingRunSpec, TrainingRunStatus

CATEGORY = "chorus"
HEADER = "# Generated from the models in operator/chorus_api by `python -m chorus_api.crd --out crds`. Do not edit.\n"


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; `wide` ones show with `-o wide`."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False

    def render(self) -> dict[str, Any]:
        """Write the column as a CustomResourceDefinition has it."""
        column: dict[str, Any] = {
            "name": self.name,
            "type": self.type,
            "jsonPath": self.path,
            "description": self.description,
        }
        return {**column, "priority": 1} if self.wide else column


AGE = Column("Age", ".metadata.creationTimestamp", "Time since it was made.", "date")


@dataclass(frozen=True)
class Kind:
    """One kind of the API: its models and what users see of it beside its fields."""

    name: str
    plural: str
    short_name: str
    description: str
    max_name: int
    spec: type[SpecModel]
    status: type[StatusModel]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """Name of the file that holds the definition."""
        return f"{self.plural}.yaml"


KINDS = (
    Kind(
        name="Project",
        plural="projects",
        short_name="cproj",
        description="One data set and the plugins that train on it.",
        max_name=20,
        spec=ProjectSpec,
        status=ProjectStatus,
        columns=(
            Column("Phase", ".status.phase", "Derived from the conditions and the plugins' newest runs."),
            Column("Frame", ".status.dataset.name", "The training frame."),
            Column("Rows", ".status.dataset.rows", "Training rows of the frame.", "integer"),
            Column("Reason", ".status.reason", "Why the phase is as it is."),
            Column("Message", ".status.message", "Why, for people.", wide=True),
            AGE,
        ),
        selectable=(".status.phase",),
    ),
    Kind(
        name="Plugin",
        plural="plugins",
        short_name="cplug",
        description="A way of training.",
        max_name=20,
        spec=PluginSpec,
        status=PluginStatus,
        columns=(
            Column("Type", ".spec.type", "Kind of training."),
            Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether runs can use it."),
            AGE,
        ),
        selectable=(".spec.type",),
    ),
    Kind(
        name="TrainingRun",
        plural="trainingruns",
        short_name="crun",
        description="One execution of one plugin on one Project's data.",
        max_name=50,
        spec=TrainingRunSpec,
        status=TrainingRunStatus,
        columns=(
            Column("Project", ".spec.projectRef.name", "The Project whose frame is trained on."),
            Column("Plugin", ".spec.plugin", "Entry of the Project's list."),
            Column("Phase", ".status.phase", "Derived from the conditions."),
            Column("Progress", ".status.shown.percent", "Percent of the optimizer steps done.", "integer"),
            Column("Loss", ".status.shown.loss", "Newest training loss."),
            Column("Reason", ".status.reason", "Why the phase is as it is."),
            Column("Message", ".status.shown.message", "Why, for people, the cause first.", wide=True),
            Column("Attempt", ".status.attempts.current", "Number of the present attempt.", "integer", wide=True),
            Column("Model", ".status.model.name", "The published model.", wide=True),
            Column("ETA", ".status.progress.etaSeconds", "Estimated seconds to the end.", "integer", wide=True),
            AGE,
        ),
        selectable=(".spec.projectRef.name", ".spec.plugin", ".status.phase"),
    ),
)


def _name_rules(kind: Kind) -> list[dict[str, str]]:
    """Bound the object's own name: names and host names of its children are built from it."""
    rules = (
        Rule(
            f"size(self.metadata.name) <= {kind.max_name}",
            f"metadata.name of a {kind.name} has at most {kind.max_name} characters: choose a shorter name",
        ),
        Rule(
            "!self.metadata.name.contains('.')",
            f"metadata.name of a {kind.name} must be a DNS label: replace each '.' by '-'",
        ),
    )
    return [validation(rule) for rule in rules]


def definition(kind: Kind) -> dict[str, Any]:
    """Build the CustomResourceDefinition of `kind`."""
    schema = {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "maxLength": 253, "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "maxLength": 63, "description": kind.name},
            "metadata": {"type": "object"},  # the API server knows it and lets nothing be said about it
            "spec": structural_schema(kind.spec, defaults=True),
            "status": status_schema(kind.status),
        },
        "x-kubernetes-validations": _name_rules(kind),
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short_name],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [column.render() for column in kind.columns],
                    "selectableFields": [{"jsonPath": path} for path in kind.selectable],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def render(kind: Kind) -> str:
    """Write the definition of `kind` as the YAML file that is committed."""
    import yaml  # a tool of developers: programs that read the models need pydantic alone

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return HEADER + yaml.dump(definition(kind), Dumper=Plain, sort_keys=False, width=120, allow_unicode=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write one file a kind into the directory named by `--out`."""
    parser = argparse.ArgumentParser(prog="python -m chorus_api.crd", description="Generate the CRDs from the models.")
    parser.add_argument("--out", type=Path, required=True, help="directory to write into; it is made if missing")
    out: Path = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (out / kind.file_name).write_text(render(kind), encoding="utf-8")


if __name__ == "__main__":
    main()
