"""The `chorus` command."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from chorus_conformance import command as plugin_check

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(prog="chorus", description="Tools for those who use Chorus and write its plugins.")
    kinds = parser.add_subparsers(required=True, metavar="COMMAND")
    plugin = kinds.add_parser("plugin", help="what authors of plugins need")
    verbs = plugin.add_subparsers(required=True, metavar="COMMAND")
    check = verbs.add_parser("check", help="see whether a plugin keeps the contract", description=plugin_check.ABOUT)
    plugin_check.add_arguments(check)
    check.set_defaults(run=plugin_check.run)
    # What the parts say that are also used in a cluster is no news here: the report says it.
    logging.basicConfig(level=logging.CRITICAL)
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:end])
    options.arguments = words[end + 1 :]
    try:
        code: int = options.run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
