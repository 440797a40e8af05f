"""A plugin's own script is executed only if it is the one whose digest the Plugin states."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from chorus_api.reasons import ExitCode
from chorus_client.script import MAX_BYTES, main

CODE = b"print('hello')\n"
DIGEST = hashlib.sha256(CODE).hexdigest()


def check(folder: Path, *, sha256: str = DIGEST, source: str = "train.py") -> int:
    arguments = [str(folder / source), str(folder / "checked.py"), sha256, "ConfigMap code, key train.py"]
    return main([*arguments, "--termination-log", str(folder / "last-word")])


def last_word(folder: Path) -> dict[str, str]:
    told: dict[str, str] = json.loads((folder / "last-word").read_text())
    return told


def test_the_bytes_that_were_checked_are_those_that_are_put_in_place(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_bytes(CODE)
    assert check(tmp_path) == ExitCode.DONE
    assert (tmp_path / "checked.py").read_bytes() == CODE
    assert (tmp_path / "checked.py").stat().st_mode & 0o777 == 0o555


def test_another_content_is_refused_with_both_digests(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_bytes(CODE + b"#")
    assert check(tmp_path) == ExitCode.BAD_CONFIGURATION
    assert not (tmp_path / "checked.py").exists()
    told = last_word(tmp_path)
    assert told["reason"] == "ScriptHashMismatch"
    assert DIGEST in told["message"]
    assert hashlib.sha256(CODE + b"#").hexdigest() in told["message"]
    assert "ConfigMap code, key train.py" in told["message"]
    assert "state its new digest" in told["hint"]


def test_a_script_that_is_not_there_is_told_with_those_that_are_and_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()  # as in the mount of a ConfigMap
    (tmp_path / "trein.py").write_bytes(CODE)
    (tmp_path / "notes").write_bytes(CODE)
    assert check(tmp_path) == ExitCode.BAD_CONFIGURATION
    assert last_word(tmp_path)["message"] == (
        "ConfigMap code, key train.py is not there; there are: notes, trein.py; did you mean 'trein.py'?"
    )


def test_a_config_map_of_a_script_that_is_not_there_has_no_keys(tmp_path: Path) -> None:
    assert check(tmp_path) == ExitCode.BAD_CONFIGURATION
    assert last_word(tmp_path)["message"] == "ConfigMap code, key train.py is not there; there are: none."


def test_a_script_that_is_not_there_or_too_large_is_named(tmp_path: Path) -> None:
    assert check(tmp_path, source="other.py") == ExitCode.BAD_CONFIGURATION
    assert last_word(tmp_path)["reason"] == "ScriptNotFound"
    assert "digest" not in last_word(tmp_path)["hint"]
    (tmp_path / "train.py").write_bytes(b"#" * (MAX_BYTES + 1))
    assert check(tmp_path) == ExitCode.BAD_CONFIGURATION
    assert "larger than" in last_word(tmp_path)["message"]
