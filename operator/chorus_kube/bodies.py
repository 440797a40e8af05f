"""Bodies of requests: JSON, and JSON that is YAML as well."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_NOT_IN_YAML = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]|\xef\xbb\xbf|\xef\xbf[\xbe\xbf]"  # U+7F-9F, 2028, 2029, FEFF, FFFE, FFFF
)


def json_body(manifest: dict[str, Any]) -> bytes:
    """Write a manifest as JSON."""
    try:
        return orjson.dumps(manifest)
    except orjson.JSONEncodeError:
        # Half a surrogate pair, or an integer of more than 64 bits. What is wrong with it the API server says better.
        return json.dumps(manifest).encode()


def yaml_body(manifest: dict[str, Any]) -> bytes:
    """Write a body that is JSON and YAML at once: server-side apply is parsed as YAML.

    JSON may hold characters as they are that YAML takes only when they are escaped, or reads as the end of a line. They
    stand in strings alone.
    """
    return _NOT_IN_YAML.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), json_body(manifest))
