"""Where a training pod finds its things: the only place that reads the environment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from chorus_api import contract
from chorus_api.run_config import RunConfig
from chorus_trainer.errors import BadConfiguration

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
ACCELERATOR_ENV = "CHORUS_ACCELERATOR"
"""Resource name of the accelerator that the pod asked for, for the warning when torch sees none; unset: CPU."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Paths and facts of one training pod."""

    config_file: Path
    data_dir: Path
    run_dir: Path
    termination_log: Path
    attempt: int
    threads: int | None
    """CPU threads to use; None leaves the choice to torch (OMP_NUM_THREADS, or no limit known)."""
    accelerator: str | None
    """What the pod asked for, such as nvidia.com/gpu."""


def parse(arguments: Sequence[str], *, environ: Mapping[str, str], cpu_max: Path = CPU_MAX) -> Settings:
    """Read the command line and the environment. The defaults are the contract's paths.

    Raises BadConfiguration when CHORUS_ATTEMPT is not a number.
    """
    parser = argparse.ArgumentParser(prog="chorus_trainer", description="Train a LoRA adapter as run.json says.")
    parser.add_argument("--config", type=Path, default=Path(contract.RUN_CONFIG), help="run.json")
    parser.add_argument("--data", type=Path, default=Path(contract.DATA_DIR), help="directory of the training frame")
    parser.add_argument("--run", type=Path, default=Path(contract.RUN_DIR), help="directory of this run; written to")
    parser.add_argument(
        "--termination-log", type=Path, default=Path(contract.TERMINATION_LOG), help="file of the last word"
    )
    options = parser.parse_args(arguments)
    attempt = environ.get(contract.ATTEMPT_ENV, "1")
    if not attempt.isdecimal():
        raise BadConfiguration(f"{contract.ATTEMPT_ENV} must be a number, not {attempt!r}")
    return Settings(
        config_file=options.config,
        data_dir=options.data,
        run_dir=options.run,
        termination_log=options.termination_log,
        attempt=int(attempt),
        threads=None if environ.get("OMP_NUM_THREADS") else cpu_limit(cpu_max),
        accelerator=environ.get(ACCELERATOR_ENV) or None,
    )


def cpu_limit(cpu_max: Path) -> int | None:
    """Whole CPUs that the cgroup (version 2, file `cpu.max`) allows, at least 1; None without a limit or a file.

    torch counts the node's cores: with a limit of 2 on a node of 64 it would start 64 threads that fight for 2 cores.
    """
    try:
        quota, period = cpu_max.read_text().split()
    except (OSError, ValueError):
        return None
    if quota == "max":
        return None
    return max(1, min(int(quota) // int(period), os.cpu_count() or 1))


def read_config(path: Path) -> RunConfig:
    """Read run.json. Raises BadConfiguration naming the file and the first field at fault."""
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadConfiguration(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadConfiguration(f"{path}: {field}: {first['msg']}") from error
