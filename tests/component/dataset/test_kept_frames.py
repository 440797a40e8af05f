"""Which frames a claim keeps: whatever the Project, another one or somebody unknown may still need."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_api.run_config import KeptFrames
from chorus_client.stop import StopFlag, Stopped
from chorus_dataset.frame.kept_frames import MARGIN_SECONDS, sweep, take_up
from dataset_builders import Preparer, csv_text, requests

ME, OTHER = "uid-1", "uid-2"
LISTED = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = [f"df-{number:012x}" for number in range(4)]
OLD = MARGIN_SECONDS + 60
"""Seconds before the list was made."""


class Claim:
    """The frames of a claim."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.frames = root / "frames"
        self.frames.mkdir(parents=True)

    def frame(self, name: str, *users: str, age: float = OLD) -> Path:
        """Put a frame there, as old as that when the list is made."""
        for user in users:
            take_up(self.frames, name, user=user)
        return self._aged(name, age)

    def unmarked(self, name: str) -> Path:
        return self._aged(name, OLD)

    def _aged(self, name: str, age: float) -> Path:
        folder = self.frames / name
        folder.mkdir(exist_ok=True)
        (folder / "train.parquet").write_bytes(b"rows")
        moment = LISTED.timestamp() - age
        os.utime(folder, (moment, moment))
        return folder

    def sweep(
        self,
        *keep: str,
        user: str = ME,
        listed: datetime = LISTED,
        now: datetime = LISTED,
        check: Callable[[], None] = lambda: None,
    ) -> set[str]:
        """Remove what nobody needs; returns what is left."""
        aside = self.frames / ".tmp-work"
        aside.mkdir(exist_ok=True)
        kept = KeptFrames(names=list(keep), listed=listed)
        sweep(self.frames, user=user, keep=kept, now=now.timestamp(), aside=aside, check=check)
        return {path.name for path in self.frames.iterdir() if path.name.startswith("df-")}

    def marks(self) -> set[str]:
        return set(os.listdir(self.frames / ".users"))


@pytest.fixture
def claim(tmp_path: Path) -> Claim:
    return Claim(tmp_path / "volume")


def test_a_frame_that_the_list_does_not_name_is_removed_with_its_mark(claim: Claim) -> None:
    claim.frame(NAMES[0], ME)
    claim.frame(NAMES[1], ME)
    assert claim.sweep(NAMES[1]) == {NAMES[1]}
    assert claim.marks() == {f"{NAMES[1]}.{ME}"}
    assert list((claim.frames / ".tmp-work").iterdir()) == []


@pytest.mark.parametrize("age", [MARGIN_SECONDS - 1, 0, -3600])
def test_a_frame_that_is_younger_than_the_list_may_belong_to_a_younger_run(claim: Claim, age: float) -> None:
    claim.frame(NAMES[0], ME, age=age)
    assert claim.sweep() == {NAMES[0]}
    assert claim.marks() == {f"{NAMES[0]}.{ME}"}


def test_a_clock_of_the_operator_that_is_ahead_makes_no_frame_old(claim: Claim) -> None:
    claim.frame(NAMES[0], ME, age=0)
    assert claim.sweep(listed=LISTED + timedelta(days=1)) == {NAMES[0]}


def test_a_list_that_waited_long_for_its_job_counts_from_when_it_was_made(claim: Claim) -> None:
    claim.frame(NAMES[0], ME, age=-3600)
    assert claim.sweep(now=LISTED + timedelta(days=1)) == {NAMES[0]}


def test_a_frame_of_another_project_stays_and_goes_when_it_lets_go_too(claim: Claim) -> None:
    claim.frame(NAMES[0], ME, OTHER)
    claim.frame(NAMES[1], OTHER)
    assert claim.sweep() == {NAMES[0], NAMES[1]}
    assert claim.sweep(NAMES[1], user=OTHER) == {NAMES[1]}


def test_a_frame_that_was_there_before_there_were_marks_stays(claim: Claim) -> None:
    claim.unmarked(NAMES[0])
    claim.unmarked(NAMES[1])
    claim.frame(NAMES[1], ME)
    assert claim.sweep() == {NAMES[0], NAMES[1]}


def test_a_frame_that_is_taken_up_again_is_young(claim: Claim) -> None:
    folder = claim.frame(NAMES[0], ME)
    take_up(claim.frames, NAMES[0], user=ME)
    assert folder.stat().st_mtime > LISTED.timestamp() - MARGIN_SECONDS
    assert claim.sweep() == {NAMES[0]}


@pytest.mark.parametrize("user", [ME, OTHER])
def test_a_frame_that_is_taken_up_while_it_is_moved_aside_comes_back(
    claim: Claim, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    """Another prepare Job has seen that it is there in the last instant."""
    claim.frame(NAMES[0], ME)
    rename = Path.rename

    def taken_up_first(path: Path, target: Path) -> Path:
        if path.name == NAMES[0] and path.parent == claim.frames:
            take_up(claim.frames, NAMES[0], user=user)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", taken_up_first)
    assert claim.sweep() == {NAMES[0]}
    assert (claim.frames / NAMES[0] / "train.parquet").read_bytes() == b"rows"


def test_nothing_outside_is_reached_by_a_link_or_a_strange_name(claim: Claim) -> None:
    outside = claim.root / "models" / "df-00000000000a"
    outside.mkdir(parents=True)
    (outside / "file").write_text("stays")
    os.utime(outside, (0, 0))
    (claim.frames / NAMES[0]).symlink_to(outside)
    folder = claim.frame(NAMES[1], ME)
    (folder / "link").symlink_to(outside)
    os.utime(folder, (0, 0))
    (claim.frames / ".users" / f"{NAMES[0]}.{ME}").touch()
    for name in ("frames", "notes", "df-0"):
        (claim.frames / name).mkdir()
        (claim.frames / ".users" / f"{name}.{ME}").touch()
    claim.sweep()
    assert (outside / "file").read_text() == "stays"
    assert (claim.frames / NAMES[0]).is_symlink()
    assert not folder.exists()
    assert all((claim.frames / name).is_dir() for name in ("frames", "notes", "df-0"))


@pytest.mark.parametrize("linked", ["frames", "frames/.users"])
def test_directories_that_are_links_are_not_swept(tmp_path: Path, linked: str) -> None:
    elsewhere = Claim(tmp_path / "elsewhere")
    elsewhere.frame(NAMES[0], ME)
    claim = Claim(tmp_path / "volume")
    if linked == "frames":
        claim.frames.rmdir()
    (claim.root / linked).symlink_to(elsewhere.root / linked)
    claim.sweep()
    assert (elsewhere.frames / NAMES[0]).is_dir()
    assert elsewhere.marks() == {f"{NAMES[0]}.{ME}"}


def test_what_cannot_be_removed_is_left_to_a_later_sweep(claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    claim.frame(NAMES[0], ME)
    claim.frame(NAMES[1], ME)
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path.name == NAMES[0]:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    assert claim.sweep() == {NAMES[0]}
    monkeypatch.undo()
    assert claim.sweep() == set()


def test_a_stop_ends_the_sweep_between_two_frames(claim: Claim) -> None:
    stop = StopFlag()
    stop.request()
    claim.frame(NAMES[0], ME)
    with pytest.raises(Stopped):
        claim.sweep(check=stop.check)
    assert (claim.frames / NAMES[0]).is_dir()


@dataclass(frozen=True)
class Case:
    """One frame of a claim."""

    age: int
    users: frozenset[str]
    listed: bool

    @property
    def stays(self) -> bool:
        return self.listed or self.users != {ME} or self.age <= MARGIN_SECONDS


CASES = st.builds(
    Case,
    age=st.sampled_from([-60, 0, MARGIN_SECONDS - 1, MARGIN_SECONDS, MARGIN_SECONDS + 1, 10 * MARGIN_SECONDS]),
    users=st.frozensets(st.sampled_from([ME, OTHER, "uid-3"])),
    listed=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(CASES, min_size=len(NAMES), max_size=len(NAMES)))
def test_exactly_what_is_old_and_ours_alone_and_not_listed_goes(cases: list[Case]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        claim = Claim(Path(folder) / "volume")
        frames = dict(zip(NAMES, cases, strict=True))
        for name, case in frames.items():
            claim.frame(name, *sorted(case.users), age=case.age)
        left = {name for name, case in frames.items() if case.stays}
        listed = [name for name, case in frames.items() if case.listed]
        assert claim.sweep(*listed) == left
        assert claim.sweep(*listed) == left


# In the prepare Job


def test_frames_of_earlier_looks_go_and_the_one_in_use_and_the_new_one_stay(preparer: Preparer) -> None:
    frames = preparer.volume / "frames"
    first, second = (preparer.content("a.csv", csv_text(requests(count))).folder for count in (5, 6))
    for folder in (first, second):
        os.utime(folder, (0, 0))
    keep = KeptFrames(names=[second.name], listed=datetime.now(UTC))
    third = preparer.content("a.csv", csv_text(requests(7)), keep_frames=keep).folder
    assert {path.name for path in frames.iterdir()} == {".users", second.name, third.name}


def test_a_look_that_is_told_of_no_list_removes_nothing(preparer: Preparer) -> None:
    first = preparer.content("a.csv", csv_text(requests(5))).folder
    os.utime(first, (0, 0))
    preparer.content("a.csv", csv_text(requests(6)))
    assert first.is_dir()


def test_a_frame_that_was_let_go_is_made_again_when_its_content_comes_back(preparer: Preparer) -> None:
    first = preparer.content("a.csv", csv_text(requests(5))).folder
    os.utime(first, (0, 0))
    keep = KeptFrames(names=[], listed=datetime.now(UTC))
    again = preparer.content("a.csv", csv_text(requests(5)), keep_frames=keep)
    assert again.folder == first
    assert len(again.train) + len(again.eval) == 5
