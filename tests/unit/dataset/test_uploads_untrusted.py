"""Files of a service's artefact go into the run's directory, and through no link that is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chorus_dataset.jobs.uploads import Uploads
from chorus_dataset.untrusted import Refused


def started(run: Path) -> Uploads:
    uploads = Uploads(run, max_bytes=100, max_files=10)
    uploads.start()
    return uploads


def put(uploads: Uploads, name: str) -> None:
    upload = uploads.begin(name, length=1)
    try:
        upload.write(b"x")
        uploads.finish(upload, sha256=None)
    except BaseException:
        uploads.abandon(upload)
        raise


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.json").write_text("theirs")
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.mark.parametrize("left", ["out", ".uploads"])
def test_links_that_an_earlier_attempt_left_are_removed_and_not_followed(run: Path, left: str) -> None:
    (run / left).symlink_to("../models")
    uploads = started(run)
    put(uploads, "model.json")
    uploads.end()
    assert (run.parent / "models" / "model.json").read_text() == "theirs"
    assert (run / "out" / "model.json").read_text() == "x"


@pytest.mark.parametrize(("linked", "name"), [("out", "model.json"), ("out/sub", "sub/model.json")])
def test_a_link_that_comes_meanwhile_is_not_followed(run: Path, linked: str, name: str) -> None:
    uploads = started(run)
    (run / linked).parent.mkdir(exist_ok=True)
    (run / linked).symlink_to(run.parent / "models")
    with pytest.raises(Refused):
        put(uploads, name)
    uploads.end()
    assert os.listdir(run.parent / "models") == ["model.json"]
    assert (run.parent / "models" / "model.json").read_text() == "theirs"
