"""Logs: one JSON object a line, ours and the libraries' alike."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs(*, level: str, form: str) -> None:
    """Send all logs to standard error: `form` is json or console; libraries speak from warnings up."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[structlog.typing.Processor] = (
        # Where rich is installed, the default would show the values of local variables: tokens are among them.
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if form == "console"
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # It warns that signals are ignored outside the main thread, which is what the watches want.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    # It reports what strangers send as an error of ours; ours are caught and logged by the handlers.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    for library in ("aiohttp", "asyncio", "kopf", "kubernetes", "urllib3"):
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))
