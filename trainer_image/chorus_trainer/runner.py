"""The process around a training: messages, the termination record, the exit code."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from chorus_api.reasons import ExitCode, Reason
from chorus_api.run_config import Messaging, RunConfig, TerminationRecord
from chorus_client.masking import mask
from chorus_client.termination import clip, write_termination
from chorus_protocol.messages import ErrorReport, ModelName
from chorus_trainer import logs
from chorus_trainer.errors import BadConfiguration, NotApplicable, Preempted, TrainerError, as_memory_error
from chorus_trainer.own_script import run_script
from chorus_trainer.ports import ClosingMessages, Stop
from chorus_trainer.settings import Settings, parse, read_config

logger = logging.getLogger(__name__)
CLOSE_SECONDS = 60.0
CLOSE_SECONDS_PREEMPTED = 5.0
ROOM = "Make room on the Project's claim, or use a larger one: spec.storage.size, or spec.storage.claimName."


MakeMessages = Callable[[Messaging, int], ClosingMessages]


def main(arguments: Sequence[str], *, environ: Mapping[str, str], stop: Stop, make_messages: MakeMessages) -> int:
    """Run one training pod; returns its exit code. Whatever happens, the termination record says what it was."""
    logs.set_up(None)
    termination_log: Path | None = None
    messages: ClosingMessages | None = None
    config: RunConfig | None = None
    try:
        settings = parse(arguments, environ=environ)
        termination_log = settings.termination_log
        config = read_config(settings.config_file)
        _prepare_run_dir(settings)
        if config.script is not None:
            return run_script(config.script, termination_log=termination_log)
        messages = make_messages(config.messaging, settings.attempt)
        record = _trained(settings, config, messages=messages, stop=stop)
        code = ExitCode.DONE
    except Exception as error:  # the last line of defence: every end is told
        failure = as_trainer_error(error)
        code = failure.exit_code
        record = termination_of(failure, config)
        _log(failure, error)
        if messages is not None and config is not None and not isinstance(failure, Preempted | NotApplicable):
            messages.send(error_report(failure, config, detail=_detail(failure, error)))
    write_termination(record, termination_log)
    if messages is not None:
        messages.close(CLOSE_SECONDS_PREEMPTED if code == ExitCode.PREEMPTED else CLOSE_SECONDS)
    return code


def _prepare_run_dir(settings: Settings) -> None:
    try:
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        logs.set_up(settings.run_dir)
    except OSError as error:
        raise TrainerError(f"the run's directory {settings.run_dir} cannot be written: {error.strerror}") from error


def _trained(settings: Settings, config: RunConfig, *, messages: ClosingMessages, stop: Stop) -> TerminationRecord:
    from chorus_trainer.checks import find_base, report_on_data  # pyarrow: not for a script of a plugin's own

    report_on_data(settings.data_dir, config, messages=messages)
    find_base(Path(config.base_model_path))
    from chorus_trainer.training import train  # torch takes seconds to load: what is wrong before should not wait

    trained = train(settings, config, messages=messages, stop=stop)
    messages.send(
        ModelName(
            project_id=config.project_id,
            plugin_id=config.plugin_id,
            model_name=config.model_name,
            digest=trained.digest,
            metrics=trained.metrics,
        )
    )
    return TerminationRecord(
        outcome="succeeded",
        reason=Reason.TRAINED,
        model_name=config.model_name,
        digest=trained.digest,
        bytes=trained.bytes,
        base_model=clip(config.base_model_uri, 200),
        samples=trained.record.samples_used,
        final_loss=trained.record.final_loss,
        eval_loss=trained.record.eval_loss,
        eval_loss_without_adapter=trained.record.eval_loss_without_adapter,
        step=trained.record.steps,
    )


def as_trainer_error(error: Exception) -> TrainerError:
    """Any exception as one with a reason, a hint and an exit code."""
    if isinstance(error, TrainerError):
        return error
    if (memory := as_memory_error(error)) is not None:
        return memory
    if isinstance(error, OSError) and error.errno == 28:
        return TrainerError(f"the volume is full: {error}", hint=ROOM)
    failure = TrainerError(f"{type(error).__name__}: {error}", hint="log.txt in the run's directory has the details.")
    failure.retryable = True
    return failure


def termination_of(failure: TrainerError, config: RunConfig | None) -> TerminationRecord:
    """The last word about a training that did not end well."""
    outcome = {Preempted: "preempted", NotApplicable: "notApplicable"}.get(type(failure), "failed")
    return TerminationRecord.model_validate(
        {
            "outcome": outcome,
            "reason": failure.reason,
            "message": clip(mask(str(failure)), 700),
            "hint": clip(failure.hint, 300),
            "retryable": failure.retryable,
            "base_model": clip(config.base_model_uri, 200) if config else None,
            "step": getattr(failure, "step", None),
        }
    )


def error_report(failure: TrainerError, config: RunConfig, *, detail: str) -> ErrorReport:
    """ERROR_REPORT of a failure."""
    return ErrorReport(
        project_id=config.project_id,
        plugin_id=config.plugin_id,
        detail=clip(mask(detail), 4096),
        reason=failure.reason,
        retryable=failure.retryable,
    )


def _detail(failure: TrainerError, error: Exception) -> str:
    told = f"{failure}. {failure.hint}" if failure.hint else str(failure)
    if failure is error or isinstance(failure, BadConfiguration):
        return told
    trace = "".join(traceback.format_exception(error))
    return f"{told}\n{trace[-3000:]}"


def _log(failure: TrainerError, error: Exception) -> None:
    if isinstance(failure, Preempted):
        logger.warning("%s", failure)
    elif failure is error or isinstance(failure, BadConfiguration):
        logger.error("%s: %s %s", failure.reason, failure, failure.hint)
    else:
        logger.error("%s: %s", failure.reason, failure, exc_info=error)
