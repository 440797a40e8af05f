"""Whose `latest/<plugin>` is, when several Projects share a claim."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chorus_api.contract import MAX_TERMINATION_BYTES
from chorus_client.termination import encode
from chorus_dataset.errors import DataError
from chorus_dataset.jobs import owners
from chorus_dataset.jobs.owners import Owner
from chorus_dataset.jobs.publish import LATEST_OWNER_CHARACTERS
from chorus_dataset.untrusted import Directory
from publish_builders import MODEL, OTHER, Volume, killed_before, uid

OURS = Path(f"../models/{MODEL}")
THEIRS: dict[str, Any] = {"project_uid": OTHER, "namespace": "team-b", "project": "cars"}


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "volume")


def other_project(volume: Volume) -> Path:
    """Publish a model of another Project on the claim; returns what `latest` says then."""
    other = Volume(volume.root, run=uid(2))
    assert other.publish(model_name="cars-1", **THEIRS).promoted
    return other.latest.readlink()


def old_link(volume: Volume, model: str) -> None:
    """Leave a link that was made before there were owners."""
    volume.latest.parent.mkdir()
    volume.latest.symlink_to(f"../models/{model}")


def test_two_projects_with_plugins_of_one_name_do_not_overwrite_each_others_latest(volume: Volume) -> None:
    theirs = other_project(volume)
    record = volume.publish()
    assert volume.latest.readlink() == theirs
    assert (record.promoted, record.digest) == (False, volume.digest)
    assert record.latest_owner == f"Project team-b/cars (uid {OTHER})"
    assert volume.model.is_dir(), "the model is published all the same"


def test_the_project_that_owns_the_link_moves_it_again_and_again(volume: Volume) -> None:
    other_project(volume)
    again = Volume(volume.root, run=uid(3))
    assert again.publish(model_name="cars-2", **THEIRS).promoted
    assert again.latest.readlink() == Path("../models/cars-2")


def test_a_link_from_before_there_were_owners_is_taken_up_by_the_project_whose_model_it_is(volume: Volume) -> None:
    old_link(volume, "older")
    record = volume.publish(promoted_before="older")
    assert (record.promoted, record.latest_owner) == (True, None)
    assert volume.latest.readlink() == OURS
    owner = json.loads((volume.latest.parent / ".owners" / "soft-prompt").read_text())
    assert (owner["namespace"], owner["project"]) == ("team-a", "home")


@pytest.mark.parametrize("before", [None, "another"])
def test_a_link_of_nobody_knows_whom_is_left(volume: Volume, before: str | None) -> None:
    old_link(volume, "older")
    record = volume.publish(promoted_before=before)
    assert volume.latest.readlink() == Path("../models/older")
    assert record.promoted is False
    assert record.latest_owner == "somebody unknown (it points to '../models/older')"


def test_a_link_without_an_owner_is_told_by_the_model_that_it_points_to(volume: Volume) -> None:
    other_project(volume)
    (volume.latest.parent / ".owners" / "soft-prompt").unlink()
    assert volume.publish().latest_owner == f"Project team-b/cars (uid {OTHER})"


def test_a_link_of_a_deleted_project_is_left_until_it_is_handed_over(volume: Volume) -> None:
    """A Project of the same name is another one."""
    earlier = Volume(volume.root, run=uid(2))
    earlier.publish(model_name="earlier", project_uid=OTHER)
    record = volume.publish()
    assert record.promoted is False
    assert record.latest_owner == f"Project team-a/home (uid {OTHER})"
    volume.latest.unlink()
    (volume.latest.parent / ".owners" / "soft-prompt").unlink()
    assert volume.publish().promoted
    assert volume.latest.readlink() == OURS


@pytest.mark.parametrize("hard_links", [True, False])
def test_of_two_projects_that_publish_their_first_model_at_once_one_owns_the_link(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    if not hard_links:
        monkeypatch.setattr(os, "link", no_hard_links)
    theirs: list[Path] = []
    happens_after_a_look(monkeypatch, "soft-prompt", lambda: theirs.append(other_project(volume)))
    record = volume.publish()
    assert theirs == [volume.latest.readlink()]
    assert (record.promoted, record.latest_owner) == (False, f"Project team-b/cars (uid {OTHER})")
    owner = json.loads((volume.latest.parent / ".owners" / "soft-prompt").read_text())
    assert owner["projectUid"] == OTHER
    assert os.listdir(volume.latest.parent / ".owners") == ["soft-prompt"]


def test_of_two_projects_that_publish_models_of_one_name_at_once_one_owns_the_name(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Volume(volume.root, run=uid(2))

    def killed_while_publishing() -> None:
        killed_before(other, "rename", **THEIRS)

    happens_after_a_look(monkeypatch, MODEL, killed_while_publishing)
    with pytest.raises(DataError, match=f"models/{MODEL} is of another run, {uid(2)}, of Project team-b/cars"):
        volume.publish()
    assert other.publish(**THEIRS).promoted


def test_a_link_that_is_handed_over_while_it_is_moved_is_not_said_to_be_promoted(volume: Volume) -> None:
    def hand_over(step: str) -> None:
        if step == "sync latest":
            (volume.latest.parent / ".owners" / "soft-prompt").unlink()
            volume.latest.unlink()
            other_project(volume)

    record = volume.publish(step=hand_over)
    assert (record.promoted, record.latest_owner) == (False, f"Project team-b/cars (uid {OTHER})")


def test_an_owner_that_was_written_by_a_job_that_was_killed_at_once_is_read_all_the_same(volume: Volume) -> None:
    other_project(volume)
    owners = volume.latest.parent / ".owners"
    os.link(owners / "soft-prompt", owners / ".0123")
    assert volume.publish().latest_owner == f"Project team-b/cars (uid {OTHER})"


def no_hard_links(*_: object, **__: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def happens_after_a_look(monkeypatch: pytest.MonkeyPatch, name: str, happens: Callable[[], None]) -> None:
    """Let something happen between the look at who owns a name and the writing of its owner."""
    real = owners.owner_of

    def look(folder: Directory, looked_at: str) -> Owner | None:
        found = real(folder, looked_at)
        if looked_at == name:
            monkeypatch.setattr(owners, "owner_of", real)
            happens()
        return found

    monkeypatch.setattr(owners, "owner_of", look)


@pytest.mark.parametrize("kind", ["file", "directory", "link elsewhere"])
def test_what_is_no_link_of_chorus_is_left(volume: Volume, kind: str) -> None:
    volume.latest.parent.mkdir()
    if kind == "file":
        volume.latest.write_text("mine")
    elif kind == "directory":
        volume.latest.mkdir()
    else:
        volume.latest.symlink_to("../runs")
    before = volume.latest.lstat().st_ino
    record = volume.publish()
    assert record.promoted is False
    assert (record.latest_owner or "").startswith("somebody unknown")
    assert volume.latest.lstat().st_ino == before


def test_a_directory_latest_that_is_a_link_is_not_followed(volume: Volume) -> None:
    elsewhere = volume.root / "training-42"
    elsewhere.mkdir()
    (volume.root / "latest").symlink_to("training-42")
    record = volume.publish()
    assert record.promoted is False
    assert os.listdir(elsewhere) == []
    assert volume.model.is_dir()


@pytest.mark.parametrize("content", ["", "{}", '{"projectUid": "../x", "namespace": "a", "project": "b"}', "x" * 9000])
def test_an_owner_that_cannot_be_read_is_nobody_known(volume: Volume, content: str) -> None:
    owners = volume.latest.parent / ".owners"
    owners.mkdir(parents=True)
    (owners / "soft-prompt").write_text(content)
    record = volume.publish()
    assert record.promoted is False
    assert not volume.latest.is_symlink()


@pytest.mark.parametrize("step", ["own latest", "link", "promote", "sync latest"])
def test_killed_at_any_step_the_link_is_one_projects(volume: Volume, step: str) -> None:
    killed_before(volume, step)
    other = Volume(volume.root, run=uid(2))
    theirs = other.publish(model_name="cars-1", **THEIRS)
    ours = volume.publish()
    assert [theirs.promoted, ours.promoted].count(True) == 1
    assert volume.latest.readlink() == (OURS if ours.promoted else Path("../models/cars-1"))


def test_the_last_word_has_room_for_the_longest_owner(volume: Volume) -> None:
    other = Volume(volume.root, run=uid(2))
    other.publish(model_name="m", project_uid=OTHER, namespace="n" * 253, project="p" * 253)
    record = volume.publish()
    assert record.latest_owner is not None
    assert len(record.latest_owner) == LATEST_OWNER_CHARACTERS
    longest = record.model_copy(update={"base_model": "b" * 200})
    body = encode(longest)
    assert len(body) <= MAX_TERMINATION_BYTES
    assert volume.digest.encode() in body
    assert b"latest_owner" in body or b"latestOwner" in body
