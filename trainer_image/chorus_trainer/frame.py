"""The training frame as the trainer sees it: two Parquet files, of which it takes the prompts and the responses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from chorus_api.reasons import Reason
from chorus_trainer.errors import BadData, NotApplicable

COLUMNS = ("prompt", "response")
TRAIN_FILE = "train.parquet"
EVAL_FILE = "eval.parquet"


@dataclass(frozen=True)
class Pair:
    """One example: what is asked and what should be answered."""

    prompt: str
    response: str


@dataclass(frozen=True)
class Frame:
    """The examples of a run."""

    train: list[Pair]
    evaluation: list[Pair]
    skipped: int
    """Rows without a prompt or without a response."""


def check(directory: Path) -> None:
    """See whether this trainer can learn from the frame at all; cheap: reads the file's footer only.

    Raises NotApplicable for a frame without the columns or without rows, BadData for one that cannot be read.
    """
    path = directory / TRAIN_FILE
    try:
        schema, rows = pq.read_schema(path), pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    if missing := [name for name in COLUMNS if name not in schema.names]:
        raise NotApplicable(
            f"the frame has no column {' and '.join(missing)}; it has {', '.join(schema.names[:50])}",
            reason=Reason.MISSING_COLUMNS,
            hint="Map a column to each with spec.dataset.fields.prompt and spec.dataset.fields.response.",
        )
    for name in COLUMNS:
        kind = schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise NotApplicable(f"column {name} holds {kind}, not text", reason=Reason.MISSING_COLUMNS)
    if rows == 0:
        raise NotApplicable("the frame has no training rows", reason=Reason.TOO_FEW_ROWS)


def read(directory: Path, *, max_samples: int) -> Frame:
    """Read the examples: the first `max_samples` usable training rows, and every usable evaluation row.

    Raises BadData when a file is damaged or no training row has both a prompt and a response.
    """
    train, skipped = _pairs(directory / TRAIN_FILE, limit=max_samples)
    if not train:
        raise BadData(
            f"none of the {skipped} training rows has both a prompt and a response", reason=Reason.ALL_ROWS_REJECTED
        )
    evaluation: list[Pair] = []
    eval_skipped = 0
    if (directory / EVAL_FILE).exists():
        evaluation, eval_skipped = _pairs(directory / EVAL_FILE, limit=None)
    return Frame(train=train, evaluation=evaluation, skipped=skipped + eval_skipped)


def _pairs(path: Path, *, limit: int | None) -> tuple[list[Pair], int]:
    pairs: list[Pair] = []
    skipped = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=list(COLUMNS), batch_size=4096):
                columns = [batch.column(name).to_pylist() for name in COLUMNS]
                for prompt, response in zip(*columns, strict=True):
                    if limit is not None and len(pairs) == limit:
                        return pairs, skipped
                    if prompt and response and prompt.strip() and response.strip():
                        pairs.append(Pair(prompt, response))
                    else:
                        skipped += 1
    except (OSError, KeyError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    return pairs, skipped


def _unreadable(path: Path, error: Exception) -> BadData:
    return BadData(
        f"the training frame's {path.name} cannot be read: {error}"[:600],
        hint="Have the data prepared again: change the Project's annotation chorus.dev/prepare.",
    )
