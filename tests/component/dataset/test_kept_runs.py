"""What a publication removes from `runs/`: what its own Project has marked, and nothing else on the claim."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_api.run_config import PublishConfig
from chorus_dataset.jobs.kept_runs import MARGIN_SECONDS
from chorus_dataset.untrusted import Directory
from publish_builders import LISTED, ME, OTHER, RUN, Killed, Volume, killed_before, uid

GONE = uid(3)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "volume")


def test_what_others_have_in_runs_of_their_claim_stays(volume: Volume) -> None:
    """TensorBoard's and Ultralytics' directories, a note, and the runs of another cluster on one export."""
    names = {"Jan05_12-00-00_gpu1", "detect", uid(4)}
    for name in names:
        (volume.root / "runs" / name / "weights").mkdir(parents=True)
        (volume.root / "runs" / name / "weights" / "best.pt").write_bytes(b"theirs")
        os.utime(volume.root / "runs" / name, (0, 0))
    (volume.root / "runs" / "notes.txt").write_text("mine")
    os.utime(volume.root / "runs" / "notes.txt", (0, 0))
    volume.old_run(GONE, ME)
    volume.publish()
    assert set(os.listdir(volume.root / "runs")) == {*names, "notes.txt", RUN, ".owners", ".removed"}


def test_the_directory_of_a_deleted_run_goes_with_its_mark(volume: Volume) -> None:
    gone, kept = volume.old_run(GONE, ME), volume.old_run(uid(4), ME)
    volume.publish(own=[uid(4)])
    assert not gone.exists()
    assert kept.is_dir()
    assert volume.marks() == {f"{RUN}.{ME}", f"{uid(4)}.{ME}"}
    assert volume.under_way() == []


def test_its_own_directory_is_kept_even_if_it_is_not_on_the_list(volume: Volume) -> None:
    volume.mark(RUN, ME)
    volume.publish(listed_runs={"own": [], "others": [], "listed": LISTED})
    assert volume.run.is_dir()


@pytest.mark.parametrize("marked_by", [(), (OTHER,), (ME, OTHER)])
def test_a_directory_that_this_project_alone_has_not_marked_stays(volume: Volume, marked_by: tuple[str, ...]) -> None:
    folder = volume.old_run(GONE, *marked_by)
    before = {f"{GONE}.{project}" for project in marked_by}
    volume.publish()
    assert folder.is_dir()
    assert before <= volume.marks()


def test_directories_of_a_deleted_project_stay_for_a_project_of_the_same_name_is_another(volume: Volume) -> None:
    folder = volume.old_run(GONE, OTHER)
    volume.publish(own=[GONE])
    volume.publish()
    assert folder.is_dir()
    assert f"{GONE}.{ME}" not in volume.marks()


def test_a_run_of_another_project_is_not_marked_and_not_removed(volume: Volume) -> None:
    unmarked, marked = volume.old_run(GONE), volume.old_run(uid(4), ME)
    volume.publish(others=[GONE, uid(4)])
    assert unmarked.is_dir()
    assert marked.is_dir()
    assert volume.marks() == {f"{RUN}.{ME}", f"{uid(4)}.{ME}"}


def test_directories_of_listed_runs_are_marked_and_go_when_their_runs_are_gone(volume: Volume) -> None:
    failed = volume.old_run(GONE)
    volume.publish(own=[GONE, uid(4)])
    assert volume.marks() == {f"{RUN}.{ME}", f"{GONE}.{ME}"}, "uid(4) has no directory"
    volume.mark(GONE, ME)
    volume.publish()
    assert not failed.exists()


@pytest.mark.parametrize("age", [MARGIN_SECONDS - 1, 0, -3600])
def test_a_run_that_was_marked_since_the_list_was_made_stays(volume: Volume, age: float) -> None:
    folder = volume.old_run(GONE, ME, age=age)
    volume.publish()
    assert folder.is_dir()


def test_a_clock_of_the_operator_that_is_ahead_makes_no_mark_old(volume: Volume) -> None:
    folder = volume.old_run(GONE, ME, age=0)
    volume.publish(listed_runs={"own": [], "others": [], "listed": LISTED + timedelta(days=1)})
    assert folder.is_dir()


@pytest.mark.parametrize("moment", [0, datetime(2065, 1, 1, tzinfo=UTC).timestamp()])
def test_times_that_a_training_can_set_make_no_directory_old_or_young(volume: Volume, moment: float) -> None:
    old, young = volume.old_run(GONE, ME), volume.old_run(uid(4), ME, age=0)
    for path in (old, young, volume.out, volume.out / "SHA256SUMS"):
        os.utime(path, (moment, moment))
    volume.publish()
    assert not old.exists()
    assert young.is_dir()


def test_what_is_no_directory_or_has_no_uid_as_its_name_stays_also_if_it_is_marked(volume: Volume) -> None:
    outside = volume.root / "other"
    outside.mkdir()
    (outside / "file").write_text("stays")
    runs = volume.root / "runs"
    (runs / GONE).symlink_to(outside)
    (runs / uid(4)).write_text("a file")
    for name in ("detect", "..", uid(0xABC).upper()):
        (runs / name).mkdir(exist_ok=True)
    for name in (GONE, uid(4), "detect", "..", uid(0xABC).upper()):
        volume.mark(name, ME)
    volume.publish()
    assert (runs / GONE).is_symlink()
    assert (runs / uid(4)).read_text() == "a file"
    assert (runs / "detect").is_dir()
    assert (runs / uid(0xABC).upper()).is_dir()
    assert (outside / "file").read_text() == "stays"


def test_a_link_in_a_directory_that_goes_is_removed_and_not_followed(volume: Volume) -> None:
    folder = volume.old_run(GONE, ME)
    victim = volume.models / "victim"
    victim.mkdir(parents=True)
    (victim / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "link").symlink_to(victim)
    (folder / "1-10" / "file").symlink_to(victim / "adapter_model.safetensors")
    os.mkfifo(folder / "fifo")
    volume.publish()
    assert not folder.exists()
    assert (victim / "adapter_model.safetensors").read_bytes() == b"weights"


def test_a_tree_that_is_deeper_than_the_stack_and_all_descriptors_is_removed(volume: Volume) -> None:
    folder = volume.old_run(GONE, ME)
    here = os.open(folder, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    volume.publish()
    assert not folder.exists()


@pytest.mark.parametrize("place", ["runs/.owners", "runs/.removed"])
def test_a_place_of_chorus_that_is_a_link_ends_the_sweep_and_not_the_publication(volume: Volume, place: str) -> None:
    folder = volume.old_run(GONE, ME)
    path = volume.root / place
    if path.exists():
        path.rename(volume.root / "elsewhere")
    (volume.root / "elsewhere").mkdir(exist_ok=True)
    path.symlink_to(volume.root / "elsewhere")
    assert volume.publish().promoted
    assert folder.is_dir()


def test_what_a_killed_publication_of_the_deleted_run_has_taken_goes_too(volume: Volume) -> None:
    other = Volume(volume.root, run=GONE)
    killed_before(other, "seal", kind="files", model_name="another")
    assert (volume.models / ".publishing" / GONE / "out").is_dir()
    volume.mark(GONE, ME)
    volume.publish()
    assert volume.under_way() == []


@pytest.mark.parametrize("step", ["sweep", "remove", "unmark"])
def test_a_sweep_that_is_cut_off_is_finished_by_the_next_one_of_the_same_project(volume: Volume, step: str) -> None:
    folder = volume.old_run(GONE, ME)
    killed_before(volume, f"{step} {GONE}")
    volume.publish(project_uid=OTHER)
    assert f"{GONE}.{ME}" in volume.marks(), "another Project leaves it alone"
    volume.publish()
    assert not folder.exists()
    assert volume.under_way() == []
    assert volume.marks() == {f"{RUN}.{ME}"}


def test_what_cannot_be_removed_is_left_to_a_later_sweep(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    volume.old_run(GONE, ME)
    other = volume.old_run(uid(4), ME)
    move = Directory.move

    def refused(folder: Directory, name: str, target: Directory, new_name: str) -> None:
        if name == f"runs/{GONE}":
            raise PermissionError(13, "Permission denied")
        move(folder, name, target, new_name)

    monkeypatch.setattr(Directory, "move", refused)
    volume.publish()
    monkeypatch.undo()
    assert not other.exists()
    assert volume.marks() == {f"{RUN}.{ME}", f"{GONE}.{ME}"}


def test_a_configuration_of_a_chorus_that_knew_no_marks_sweeps_and_marks_nothing(volume: Volume) -> None:
    folder = volume.old_run(GONE, ME)
    of_before = {
        "version": 1,
        "runName": "home-soft-prompt-1",
        "runUid": RUN,
        "runId": "run_1",
        "plugin": "soft-prompt",
        "modelName": "home-soft-prompt-1",
        "expectedDigest": volume.digest,
        "kind": "adapter",
        "optional": False,
        "promote": True,
        "keepRunUids": [RUN],
    }
    config = PublishConfig.model_validate(of_before)
    changes = {name: getattr(config, name) for name in ("project_uid", "listed_runs", "namespace", "project")}
    record = volume.publish(**changes)
    assert (record.promoted, record.digest) == (True, volume.digest)
    assert folder.is_dir()
    assert volume.marks() == {f"{GONE}.{ME}"}


@dataclass(frozen=True)
class Case:
    """One directory in `runs/`."""

    age: int
    marked_by: frozenset[str]
    listed: str | None

    @property
    def stays(self) -> bool:
        young = self.age <= MARGIN_SECONDS
        return self.listed is not None or self.marked_by != {ME} or young


CASES = st.builds(
    Case,
    age=st.sampled_from([-60, 0, MARGIN_SECONDS, MARGIN_SECONDS + 1, 10 * MARGIN_SECONDS]),
    marked_by=st.frozensets(st.sampled_from([ME, OTHER, uid(0xC)])),
    listed=st.sampled_from([None, None, "own", "others"]),
)


@settings(max_examples=20, deadline=None)
@given(cases=st.lists(CASES, min_size=1, max_size=4), cut=st.integers(0, 20))
def test_exactly_what_is_old_and_ours_alone_and_not_listed_goes_wherever_it_is_cut_off(
    cases: list[Case], cut: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        volume = Volume(Path(root) / "volume")
        runs = {uid(100 + number): case for number, case in enumerate(cases)}
        for run, case in runs.items():
            volume.old_run(run, *sorted(case.marked_by), age=case.age)
        listed = {kind: [run for run, case in runs.items() if case.listed == kind] for kind in ("own", "others")}
        steps = 0

        def kill(_: str) -> None:
            nonlocal steps
            steps += 1
            if steps == cut:
                raise Killed

        try:
            volume.publish(step=kill, own=listed["own"], others=listed["others"])
        except Killed:
            pass
        volume.publish(own=listed["own"], others=listed["others"])
        left = {run for run in runs if (volume.root / "runs" / run).is_dir()}
        assert left == {run for run, case in runs.items() if case.stays}
        assert volume.under_way() == []
