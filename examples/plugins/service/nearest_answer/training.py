"""One training, from TRAINING_DATA to MODEL_NAME."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import ssl
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq

from nearest_answer.answers import Answers, Pair, judged
from nearest_answer.correspondence import Correspondence, Refused, Unreachable

LOG = logging.getLogger(__name__)
COLUMNS = ("prompt", "response")
MIN_ROWS = 10
MOST_NEIGHBOURS = 20
REPORT: Mapping[str, Any] = {
    "id": "nearest-answer",
    "name": "Nearest answer",
    "type": "RETRIEVAL",
    "description": "Answers a request as the most similar known one was answered.",
    "parameters": {"neighbours": 1},
    "needed_columns": list(COLUMNS),
    "needed_info": [],
    "min_rows": MIN_ROWS,
    "parameters_schema": {
        "properties": {
            "neighbours": {
                "type": "integer",
                "minimum": 1,
                "maximum": MOST_NEIGHBOURS,
                "default": 1,
                "description": "How many similar requests vote on the answer.",
            }
        }
    },
}
"""ONLINE_REPORT."""


class Unsuited(Exception):
    """The frame lacks what is needed."""


class WrongParameter(Exception):
    """A parameter is not as it must be."""


async def train(data: Mapping[str, Any], line: Correspondence) -> None:
    """Train, and tell Chorus how it went; nothing is raised but what makes it useless to tell more."""
    try:
        neighbours = _neighbours(data.get("parameters", {}))
        tls = ssl.create_default_context(cadata=data["exchange_ca"])
        parts = [_pairs(await line.fetch(f"{data['location']}{part}.parquet", tls)) for part in ("train", "eval")]
        known, held_back = parts
        if len(known) < MIN_ROWS:
            raise Unsuited(f"{len(known)} rows have a prompt and a response; {MIN_ROWS} are needed")
        await line.say("DATA_REPORT", applicable=True)
        await line.say("TRAINING_START")
        await _learn(data, line, tls, known, held_back, neighbours=neighbours)
    except Unsuited as error:
        await line.say("DATA_REPORT", applicable=False, reason=str(error)[:253])
    except WrongParameter as error:
        await line.say("ERROR_REPORT", reason="BadConfiguration", detail=str(error))
    except Unreachable as error:
        await line.say("ERROR_REPORT", reason="InternalError", detail=str(error)[:4096], retryable=True)
    except Refused:
        raise
    except Exception as error:
        LOG.exception("the training failed")
        await line.say("ERROR_REPORT", reason="TrainingFailed", detail=f"{type(error).__name__}: {error}"[:4096])


async def _learn(
    data: Mapping[str, Any],
    line: Correspondence,
    tls: ssl.SSLContext,
    known: list[Pair],
    held_back: list[Pair],
    *,
    neighbours: int,
) -> None:
    loop = asyncio.get_running_loop()
    told = 0

    def progress(done: int, total: int) -> None:
        """From the thread that judges: ten messages in all, whatever the number of rows."""
        nonlocal told
        percent = 100 * done // total
        if percent // 10 > told // 10:
            told = percent
            message = line.say("progress", percent=percent, step=done, total_steps=total)
            asyncio.run_coroutine_threadsafe(message, loop).result()

    answers = await asyncio.to_thread(Answers.learned, known)
    figures = await asyncio.to_thread(judged, answers, held_back, neighbours=neighbours, progress=progress)
    for name, content in _artefact(answers, figures, data, neighbours=neighbours).items():
        await line.put(data["exchange_url"], name, content.encode(), tls)
    await line.say("MODEL_NAME", model_name="nearest-answer", metrics=figures)


def _neighbours(parameters: Mapping[str, Any]) -> int:
    unknown = sorted(set(parameters) - {"neighbours"})
    if unknown:
        raise WrongParameter(f"parameters.{unknown[0]}: there is no such parameter; there is neighbours")
    value = parameters.get("neighbours", 1)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_NEIGHBOURS:
        raise WrongParameter(f"parameters.neighbours: {value!r} is not a whole number from 1 to {MOST_NEIGHBOURS}")
    return value


def _pairs(parquet: bytes) -> list[Pair]:
    table = pq.read_table(io.BytesIO(parquet))
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise Unsuited(f"the frame lacks {', '.join(missing)}; it has {', '.join(table.column_names)}")
    rows = zip(*(table[name].to_pylist() for name in COLUMNS), strict=True)
    return [(str(prompt), str(response)) for prompt, response in rows if prompt and response]


def _artefact(
    answers: Answers, figures: Mapping[str, float], data: Mapping[str, Any], *, neighbours: int
) -> dict[str, str]:
    pairs = [
        json.dumps({"prompt": prompt, "response": response}, ensure_ascii=False) for prompt, response in answers.pairs
    ]
    rows = [f"| {name} | {value:.4f} |" for name, value in figures.items()]
    card = [
        "# Nearest answer",
        "",
        f"{len(answers.pairs)} requests of the frame {data['training_df_name']} with their answers (`answers.jsonl`),"
        " and how rare each word is (`model.json`). A request is answered as the most similar known one, by the cosine"
        " of the weighted words.",
        "",
        "| on the rows held back | |",
        "| --- | --- |",
        *rows,
        "",
    ]
    model = {"format": "nearest-answer-1", "neighbours": neighbours, "rarity": answers.rarity}
    return {
        "answers.jsonl": "".join(f"{pair}\n" for pair in pairs),
        "model.json": json.dumps(model, ensure_ascii=False) + "\n",
        "README.md": "\n".join(card),
    }
