"""Small training frames that the kit makes: a table with an outcome, texts, or the author's own file.

They are prepared by the code that prepares frames in a cluster.
"""

from __future__ import annotations

import csv
import io
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chorus_api.run_config import Messaging, PrepareConfig
from chorus_conformance.errors import CannotCheck
from chorus_conformance.given import FrameFormat
from chorus_dataset.convert import convert
from chorus_dataset.errors import DataError
from chorus_dataset.jobs.prepare import prepare_frame
from chorus_protocol.messages import FrameManifest, OnlineReport

ROWS = 120
MOST_ROWS = 20_000
EVAL_FRACTION = "0.2"
_NOWHERE = Messaging(url="https://unused", token_file="", ca_file="", subject_uid="unused", source="/unused")
_SPECIES = {"adelie": (38.8, 190, 3700), "chinstrap": (48.8, 196, 3730), "gentoo": (47.5, 217, 5080)}
_ROOMS = ("kitchen", "bedroom", "office", "hall", "cellar")
_DEEDS = ("turn on", "turn off", "dim", "brighten")


@dataclass(frozen=True)
class Source:
    """Data of a frame as text, with the additional information that goes with it."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    info: Mapping[str, str] = field(default_factory=dict)

    def csv(self) -> bytes:
        """Write it as CSV; None is an empty field."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in self.rows)
        return text.getvalue().encode()

    def without(self, column: str) -> Source:
        """Leave a column out; another stands in for the only one."""
        kept = [index for index, name in enumerate(self.columns) if name != column]
        if not kept:
            return Source(self.name, ["something_else"], [[number] for number in range(len(self.rows))], self.info)
        return Source(
            self.name,
            [self.columns[index] for index in kept],
            [[row[index] for index in kept] for row in self.rows],
            self.info,
        )


def tabular(rows: int = ROWS) -> Source:
    """Birds: numbers, a category, missing values, and the outcome `species`, which `info.outcome` names."""
    chance = random.Random(7)
    made: list[list[object]] = []
    for number in range(rows):
        species = list(_SPECIES)[number % len(_SPECIES)]
        bill, flipper, mass = _SPECIES[species]
        sex = None if number % 17 == 0 else ("female", "male")[number % 2]
        length = None if number % 23 == 0 else round(chance.gauss(bill, 2.5), 1)
        island = chance.choice(("biscoe", "dream", "torgersen"))
        made.append([island, length, int(chance.gauss(flipper, 5)), int(chance.gauss(mass, 300)), sex, species])
    columns = ["island", "bill_length_mm", "flipper_length_mm", "body_mass_g", "sex", "species"]
    return Source("tabular", columns, made, {"outcome": "species"})


def texts(rows: int = ROWS) -> Source:
    """Requests to a home and what is to be answered: `prompt` and `response`."""
    made = []
    for number in range(rows):
        room, deed = _ROOMS[number % len(_ROOMS)], _DEEDS[number // len(_ROOMS) % len(_DEEDS)]
        made.append([f"{deed} lamp {number} in the {room}", f"lamp {number} in the {room}: {deed}, done"])
    return Source("texts", ["prompt", "response"], made)


def read_source(path: Path, info: Mapping[str, str]) -> Source:
    """Read the author's own CSV file; CannotCheck when it is none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = csv.reader(file)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise CannotCheck(
            f"--frame {path} cannot be read: {error}", hint="name a CSV file in UTF-8 whose first row names the columns"
        ) from error
    if not rows:
        raise CannotCheck(f"--frame {path} has no rows", hint="name a CSV file with a header and some rows")
    return Source(path.name, header, rows, info)


def suited_source(report: OnlineReport | None, *, own: Source | None, info: Mapping[str, str]) -> Source:
    """Choose or make data that has what the plugin says it needs; CannotCheck when only the author can."""
    rows = ROWS if report is None or report.min_rows is None else max(ROWS, report.min_rows * 2)
    if rows > MOST_ROWS and own is None:
        raise CannotCheck(
            f"ONLINE_REPORT needs {report.min_rows if report else 0} rows, too many to make up",
            hint="give data of your own: --frame FILE.csv",
        )
    for made in (own,) if own is not None else (tabular(rows), texts(rows)):
        source = Source(made.name, made.columns, made.rows, {**made.info, **info})
        if report is None or not lacks(report, source):
            return source
    assert report is not None
    where = own or tabular(rows)
    raise CannotCheck(
        f"no frame at hand has what ONLINE_REPORT needs: {where.name} lacks {', '.join(lacks(report, where))}",
        hint="give data of your own: --frame FILE.csv, and --info KEY=VALUE for needed_info",
    )


def lacks(report: OnlineReport, source: Source) -> list[str]:
    """Name what the plugin needs and the data does not have."""
    columns = [f"column {name}" for name in report.needed_columns if name not in source.columns]
    return columns + [f"info {key}" for key in report.needed_info if key not in source.info]


def unsuited_source(report: OnlineReport | None, suited: Source) -> Source | None:
    """Make data that lacks something that the plugin needs; None when it needs nothing."""
    if report is None:
        return None
    if report.needed_columns:
        return suited.without(report.needed_columns[0])
    if report.needed_info:
        kept = {key: value for key, value in suited.info.items() if key != report.needed_info[0]}
        return Source(suited.name, suited.columns, suited.rows, kept)
    if report.min_rows is not None and report.min_rows > 1:
        return Source(suited.name, suited.columns, suited.rows[: report.min_rows - 1], suited.info)
    return None


@dataclass(frozen=True)
class Frame:
    """Data that is prepared: its files are in `folder`."""

    source: Source
    manifest: FrameManifest
    folder: Path

    def copy_to(self, target: Path) -> None:
        """Give an execution its own."""
        for file in sorted(self.folder.iterdir()):
            shutil.copy2(file, target / file.name)


def prepare(source: Source, folder: Path, frame_format: FrameFormat) -> Frame:
    """Prepare data into a directory that is not there yet; CannotCheck when it cannot be a frame."""
    folder.mkdir()
    scratch = folder.with_name(f"{folder.name}-source")
    return Frame(source, write_frame_files(source, scratch=scratch, target=folder, frame_format=frame_format), folder)


def write_frame_files(source: Source, *, scratch: Path, target: Path, frame_format: FrameFormat) -> FrameManifest:
    """Prepare the data as a Project's would be, into `target`; CannotCheck when it cannot be a frame."""
    scratch.mkdir()
    file = scratch / "source.csv"
    file.write_bytes(source.csv())
    config = PrepareConfig(
        project="check",
        project_id=1,
        project_uid="unused",
        prepare_key="check",
        source_path=str(file),
        source_name=source.name,
        format="csv",
        query=None,
        max_rows=None,
        fields=None,
        eval_fraction=EVAL_FRACTION,
        info=dict(source.info),
        messaging=_NOWHERE,
    )
    try:
        manifest = prepare_frame(config, scratch)
    except DataError as error:
        raise CannotCheck(f"{source.name} cannot be made into a frame: {error.message}", hint=error.hint) from error
    frame = scratch / "frames" / manifest.name
    if frame_format == "parquet":
        for each in frame.iterdir():
            each.rename(target / each.name)
    else:
        convert(frame_format, frame=frame, target=target)
    for each in target.iterdir():
        each.chmod(0o444)
    return manifest
