"""The CPU Jobs of a Project: `python -m chorus_dataset prepare | fetch | publish | exchange`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chorus_api.contract import (
    ATTEMPT_ENV,
    DATA_DIR,
    JOB_CONFIG,
    JOB_CONFIG_VARIABLE,
    RUN_DIR,
    TERMINATION_LOG,
    VOLUME_DIR,
)
from chorus_api.records import TerminationRecord
from chorus_client.stop import StopFlag
from chorus_dataset.jobs.job import read_config, run_job

if TYPE_CHECKING:
    from chorus_dataset.sources.egress import Egress
    from chorus_net.addresses import Address


def main(arguments: Sequence[str] | None = None, *, allows: Callable[[Address], bool] | None = None) -> int:
    """Run one Job and return its exit code.

    `allows`: addresses that data may come from although they would be refused (`Egress`), for tests; none when None.
    """
    parser = argparse.ArgumentParser(prog="chorus_dataset", description=__doc__)
    parser.add_argument("job", choices=["prepare", "fetch", "publish", "exchange"])
    parser.add_argument("--config", type=Path, default=Path(JOB_CONFIG), help="configuration (default: %(default)s)")
    parser.add_argument("--volume", type=Path, default=Path(VOLUME_DIR), help="the Project's claim (%(default)s)")
    parser.add_argument("--data", type=Path, default=Path(DATA_DIR), help="exchange: the frame (%(default)s)")
    parser.add_argument("--run", type=Path, default=Path(RUN_DIR), help="exchange: the run's directory (%(default)s)")
    parser.add_argument("--termination-log", type=Path, default=Path(TERMINATION_LOG), help="(%(default)s)")
    options = parser.parse_args(arguments)
    # The pods of a Project have one group and may have different users.
    os.umask(0o002)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Its lines hold every address that is asked, and no cause.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop = StopFlag().install()

    def guard(api_server: Sequence[str]) -> Egress:
        from chorus_dataset.sources.egress import Egress
        from chorus_net.addresses import nothing

        # The kubelet tells every container where the Service of the API server is.
        own = os.environ.get("KUBERNETES_SERVICE_HOST", "")
        return Egress(api_server=[own, *api_server], allows=allows or nothing)

    def work(flag: StopFlag) -> TerminationRecord:
        # Imported here, so that each Job loads only what it needs.
        if options.job == "prepare":
            from chorus_api.run_config import PrepareConfig
            from chorus_dataset.jobs.prepare import run_prepare

            prepare = read_config(options.config, PrepareConfig)
            return run_prepare(prepare, options.volume, stop=flag, egress=guard(prepare.api_server))
        if options.job == "fetch":
            from chorus_api.run_config import FetchConfig
            from chorus_dataset.jobs.fetch import run_fetch

            fetch = read_config(options.config, FetchConfig)
            return run_fetch(fetch, options.volume, stop=flag, egress=guard(fetch.api_server))
        if options.job == "exchange":
            from chorus_api.run_config import ExchangeConfig
            from chorus_dataset.jobs.exchange import run_exchange

            told = read_config(options.config, ExchangeConfig)
            attempt = int(os.environ.get(ATTEMPT_ENV, "1"))
            return run_exchange(told, attempt=attempt, data_dir=options.data, run_dir=options.run, stop=flag)
        from chorus_api.publication import PublishConfig
        from chorus_dataset.jobs.publish import run_publish

        publish = read_config(options.config, PublishConfig, instead=os.environ.get(JOB_CONFIG_VARIABLE))
        return run_publish(publish, options.volume, stop=flag)

    return run_job(work, termination_log=options.termination_log, stop=stop)


if __name__ == "__main__":
    sys.exit(main())
