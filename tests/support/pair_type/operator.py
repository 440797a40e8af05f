"""An operator that has one more plugin type.

The model takes the place of the one in chorus_api, then one line registers the type. All else is the operator's own.
"""

from __future__ import annotations

import sys

import chorus_api.plugin
from pair_type.models import WithPairs

chorus_api.plugin.Plugin = WithPairs  # type: ignore[misc]  # before anything of the operator reads it

from chorus_operator.__main__ import main  # noqa: E402
from chorus_operator.plugin_types.registry import PLUGIN_TYPES  # noqa: E402
from pair_type.pair import PairType  # noqa: E402

PLUGIN_TYPES["pair"] = PairType()

if __name__ == "__main__":
    sys.exit(main())
