"""Why a training ends early. Each error knows its reason, its hint and the exit code that the operator acts on."""

from __future__ import annotations

from chorus_api.reasons import ExitCode, Reason


class TrainerError(Exception):
    """A training cannot go on. The message names what is wrong; `hint` says what to change."""

    exit_code = ExitCode.INTERNAL
    retryable = False
    default_reason = Reason.INTERNAL_ERROR

    def __init__(self, message: str, *, reason: Reason | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason
        self.hint = hint


class BadConfiguration(TrainerError):
    """A parameter or the base model is at fault: the same run would fail again."""

    exit_code = ExitCode.BAD_CONFIGURATION
    default_reason = Reason.BAD_CONFIGURATION


class BadData(TrainerError):
    """The frame is unreadable or has nothing to train on."""

    exit_code = ExitCode.BAD_DATA
    default_reason = Reason.BAD_DATA


class NotApplicable(TrainerError):
    """The frame is sound, but this plugin cannot learn from it."""

    exit_code = ExitCode.NOT_APPLICABLE
    default_reason = Reason.NOT_APPLICABLE


class NonFinite(BadConfiguration):
    """The loss or the gradient stopped being a number; the weights were not touched by it."""

    default_reason = Reason.NON_FINITE_LOSS


class Preempted(TrainerError):
    """Told to stop: what was learned is saved, and the next attempt goes on from there."""

    exit_code = ExitCode.PREEMPTED
    retryable = True
    default_reason = Reason.DISRUPTED

    def __init__(self, message: str, *, step: int | None) -> None:
        super().__init__(message)
        self.step = step


OUT_OF_MEMORY_HINT = (
    "Lower batchSize and raise gradientAccumulation by the same factor (the result stays the same), lower "
    "maxSourceTokens or maxTargetTokens, or give the plugin more memory."
)
_OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def as_memory_error(error: BaseException) -> BadConfiguration | None:
    """`error` as a refusal with a hint when it says that memory ran out, of the accelerator or of the host."""
    text = str(error).splitlines()[0] if str(error) else ""
    kind = type(error).__name__
    told = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _OUT_OF_MEMORY_WORDS)
    if not (isinstance(error, MemoryError) or kind == "OutOfMemoryError" or told):
        return None
    where = "accelerator" if "CUDA" in str(error) or "HIP" in str(error) else "host"
    return BadConfiguration(
        f"The {where}'s memory ran out: {text[:300] or kind}", reason=Reason.OUT_OF_MEMORY, hint=OUT_OF_MEMORY_HINT
    )
