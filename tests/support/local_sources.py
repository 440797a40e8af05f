"""Servers of tests are on this machine, where nothing may be fetched from: they are allowed here and nowhere else.

`job_command("prepare", …)` runs a CPU Job so.
"""

from __future__ import annotations

import sys

from chorus_api.run_config import PrepareConfig
from chorus_dataset.__main__ import main
from chorus_dataset.sources.egress import Egress
from chorus_net.addresses import Address


def on_this_machine(address: Address) -> bool:
    """Whether an address is one of this machine's own."""
    return address.is_loopback


def local_egress(config: PrepareConfig | None = None) -> Egress:
    """What a configuration allows, and servers on this machine."""
    return Egress(api_server=config.api_server if config else (), allows=on_this_machine)


def job_command(*words: str) -> list[str]:
    """Command line of a CPU Job, wherever tests are imported from."""
    return [sys.executable, __file__, *words]


if __name__ == "__main__":
    sys.exit(main(allows=on_this_machine))
