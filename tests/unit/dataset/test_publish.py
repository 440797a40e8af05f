from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chorus_api.reasons import ExitCode, Reason
from chorus_api.run_config import PublishConfig, RunRecord, TerminationRecord
from chorus_client import StopFlag
from chorus_dataset.errors import DataError
from chorus_dataset.jobs import run_job
from chorus_dataset.publish import run_publish

RECORD = RunRecord(
    base_model="hf://lab/tiny-t5",
    samples_used=1873,
    epochs=3,
    learning_rate=5e-5,
    run_directory="/chorus/run",
    trained_at="2026-11-21T10:15:02Z",
    final_loss=0.5,
    run_id="run_20261121_101502_3f9c",
    eval_loss=0.75,
    steps=705,
)
FILES = {
    "adapter_model.safetensors": b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ",
    "adapter_config.json": b"{}",
    "README.md": b"# A model\n",
    "tokenizer/spiece.model": b"pieces",
}


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


class Volume:
    """A Project's volume with one finished run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "runs" / "uid-1"
        self.out = self.run / "out"
        self.model = root / "models" / "home-soft-prompt-1"
        self.latest = root / "latest" / "soft-prompt"
        for name, content in FILES.items():
            self.write(f"out/{name}", content)
        self.write("training_run.json", RECORD.model_dump_json().encode())
        self.write("metrics.jsonl", b'{"step": 1, "loss": 2.0}\n')
        self.write("log.txt", b"training\n")
        self.write("1-700/adapter_model.safetensors", b"checkpoint")
        self.digest = self.write_sums(FILES)

    def write(self, name: str, content: bytes) -> None:
        path = self.run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def write_sums(self, files: dict[str, bytes]) -> str:
        sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
        self.write("out/SHA256SUMS", sums.encode())
        return f"sha256:{hashlib.sha256(sums.encode()).hexdigest()}"

    def old_run(self, uid: str, *, age: int = 86400) -> Path:
        folder = self.root / "runs" / uid
        (folder / "1-10").mkdir(parents=True)
        (folder / "1-10" / "optimizer.pt").write_bytes(b"state")
        moment = (self.out / "SHA256SUMS").stat().st_mtime - age
        os.utime(folder, (moment, moment))
        return folder

    def config(self, **changes: Any) -> PublishConfig:
        values = {
            "run_name": "home-soft-prompt-1",
            "run_uid": "uid-1",
            "run_id": RECORD.run_id,
            "plugin": "soft-prompt",
            "model_name": "home-soft-prompt-1",
            "expected_digest": self.digest,
            "promote": True,
            "keep_run_uids": ["uid-1", "uid-2"],
        }
        return PublishConfig.model_validate({**values, **changes})

    def publish(self, *, step: Callable[[str], None] = lambda _: None, **changes: Any) -> TerminationRecord:
        return run_publish(self.config(**changes), self.root, stop=StopFlag(), step=step)

    def error(self, **changes: Any) -> DataError:
        """Publish what must not be published; return the error, and see that nothing changed place."""
        with pytest.raises(DataError) as caught:
            self.publish(**changes)
        assert self.out.exists()
        assert not self.latest.is_symlink()
        return caught.value

    def tree(self) -> dict[str, str]:
        """All files with a digest of their content, and links with their targets."""
        found: dict[str, str] = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_file():
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "volume")


def test_a_model_holds_the_artefact_the_record_and_the_metrics(volume: Volume) -> None:
    record = volume.publish()
    names = {str(path.relative_to(volume.model)) for path in volume.model.rglob("*") if path.is_file()}
    assert names == {*FILES, "SHA256SUMS", "training_run.json", "metrics.jsonl"}
    assert not volume.out.exists()
    assert (volume.run / "log.txt").exists(), "the rest of the run stays until the run is deleted"
    assert record == TerminationRecord(
        outcome="succeeded",
        reason="ModelPublished",
        model_name="home-soft-prompt-1",
        digest=volume.digest,
        bytes=sum(path.stat().st_size for path in volume.model.rglob("*") if path.is_file()),
        base_model="hf://lab/tiny-t5",
        samples=1873,
        final_loss=0.5,
        eval_loss=0.75,
        step=705,
        promoted=True,
    )


def test_latest_points_to_the_promoted_model(volume: Volume) -> None:
    volume.publish()
    assert volume.latest.readlink() == Path("../models/home-soft-prompt-1")
    assert (volume.latest / "adapter_config.json").read_bytes() == b"{}"


def test_latest_is_moved_from_an_older_model(volume: Volume) -> None:
    volume.latest.parent.mkdir()
    volume.latest.symlink_to("../models/older")
    volume.publish()
    assert volume.latest.resolve() == volume.model


def test_without_promotion_latest_stays(volume: Volume) -> None:
    volume.latest.parent.mkdir()
    volume.latest.symlink_to("../models/older")
    record = volume.publish(promote=False)
    assert volume.latest.readlink() == Path("../models/older")
    assert record.promoted is False
    assert volume.model.is_dir()


def test_directories_of_deleted_runs_are_swept_and_no_others(volume: Volume) -> None:
    kept, deleted, young = volume.old_run("uid-2"), volume.old_run("uid-3"), volume.old_run("uid-4", age=-5)
    outside = volume.root / "other"
    outside.mkdir()
    (outside / "file").write_text("stays")
    link = volume.root / "runs" / "uid-5"
    link.symlink_to(outside)
    moment = (volume.out / "SHA256SUMS").stat().st_mtime - 86400
    os.utime(link, (moment, moment), follow_symlinks=False)
    volume.publish(keep_run_uids=["uid-2"])
    assert kept.is_dir()
    assert volume.run.is_dir(), "its own directory is kept even if it is not on the list"
    assert not deleted.exists()
    assert young.is_dir(), "what is younger than the artefact may belong to a run that came after the list was made"
    assert not link.is_symlink()
    assert (outside / "file").read_text() == "stays"


def test_nothing_is_swept_by_a_publication_that_knows_no_runs(volume: Volume) -> None:
    deleted = volume.old_run("uid-3")
    volume.publish(keep_run_uids=None)
    assert deleted.is_dir()


def test_publishing_twice_gives_the_same_result(volume: Volume) -> None:
    first = volume.publish()
    tree = volume.tree()
    assert volume.publish() == first
    assert volume.tree() == tree


def steps_of(volume: Volume) -> list[str]:
    steps: list[str] = []
    volume.old_run("uid-3")
    volume.publish(step=steps.append)
    return steps


def test_killed_before_any_step_and_run_again_it_gives_the_same_result(tmp_path: Path) -> None:
    whole = Volume(tmp_path / "whole")
    steps = steps_of(whole)
    assert steps == [
        "add training_run.json",
        "add metrics.jsonl",
        "sync",
        "rename",
        "sync directories",
        "link",
        "promote",
        "sync latest",
        "sweep uid-3",
    ]
    for number, name in enumerate(steps):
        volume = Volume(tmp_path / f"killed-{number}")
        volume.old_run("uid-3")

        def kill(step: str, name: str = name) -> None:
            if step == name:
                raise Killed

        with pytest.raises(Killed):
            volume.publish(step=kill)
        assert volume.model.is_dir() == (number > steps.index("rename"))
        assert volume.publish().digest == whole.digest
        assert volume.tree() == whole.tree(), f"killed before {name}"


def test_a_model_never_appears_before_it_is_whole(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    seen: list[bool] = []

    def look(_: str) -> None:
        if volume.model.exists():
            seen.append((volume.model / "training_run.json").exists() and (volume.model / "SHA256SUMS").exists())

    volume.publish(step=look)
    assert seen
    assert all(seen)


def test_a_digest_that_the_training_did_not_report_is_refused(volume: Volume) -> None:
    error = volume.error(expected_digest=f"sha256:{'0' * 64}")
    assert error.reason is Reason.DIGEST_MISMATCH
    assert "but the training reported sha256:000" in error.message


def test_without_a_reported_digest_the_sums_decide(volume: Volume) -> None:
    assert volume.publish(expected_digest=None).digest == volume.digest


def test_a_changed_file_is_refused(volume: Volume) -> None:
    volume.write("out/adapter_config.json", b"[]")
    error = volume.error()
    assert error.reason is Reason.DIGEST_MISMATCH
    assert "runs/uid-1/out/adapter_config.json is not what SHA256SUMS says" in error.message


def test_a_missing_file_is_refused(volume: Volume) -> None:
    (volume.out / "README.md").unlink()
    assert "SHA256SUMS names files that are not there: README.md" in volume.error().message


def test_a_file_that_the_sums_do_not_name_is_refused(volume: Volume) -> None:
    volume.write("out/extra.json", b"{}")
    assert "SHA256SUMS does not name extra.json" in volume.error().message


def test_missing_sums_are_refused(volume: Volume) -> None:
    (volume.out / "SHA256SUMS").unlink()
    assert volume.error().reason is Reason.DIGEST_MISMATCH


@pytest.mark.parametrize("name", ["model.pkl", "pytorch_model.bin", "training_args.pt", "modeling.py", "run", "a.so"])
def test_files_that_may_hold_code_are_refused(volume: Volume, name: str) -> None:
    volume.write(f"out/{name}", b"code")
    digest = volume.write_sums({**FILES, name: b"code"})
    error = volume.error(expected_digest=digest)
    assert error.reason is Reason.PUBLISH_FAILED
    assert f"runs/uid-1/out/{name}: files of this kind are not published" in error.message


def test_an_artefact_without_weights_is_refused(volume: Volume) -> None:
    (volume.out / "adapter_model.safetensors").unlink()
    digest = volume.write_sums({name: content for name, content in FILES.items() if "safetensors" not in name})
    assert "holds no .safetensors file" in volume.error(expected_digest=digest).message


@pytest.mark.parametrize("target", ["/etc/hostname", "../training_run.json", "README.md"])
def test_links_are_refused(volume: Volume, target: str) -> None:
    (volume.out / "link.json").symlink_to(target)
    assert "link.json is a link" in volume.error().message


def test_a_linked_directory_is_refused(volume: Volume, tmp_path: Path) -> None:
    (volume.out / "more").symlink_to(tmp_path)
    assert "more is a link" in volume.error().message


def test_an_artefact_that_is_a_link_is_refused(volume: Volume) -> None:
    volume.out.rename(volume.run / "elsewhere")
    volume.out.symlink_to("elsewhere")
    assert "runs/uid-1/out is no directory" in volume.error().message


@pytest.mark.parametrize("name", ["/etc/passwd.json", "../training_run.json", "a/../../b.json", "./a/./b.json"])
def test_sums_that_leave_the_artefact_are_refused(volume: Volume, name: str) -> None:
    with (volume.out / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  {name}\n")
    error = volume.error(expected_digest=None)
    assert "leaves the artefact" in error.message


def test_sums_that_are_no_sums_are_refused(volume: Volume) -> None:
    volume.write("out/SHA256SUMS", b"hello\n")
    assert "SHA256SUMS, line 1: not a digest and a name" in volume.error().message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"final_loss": float("nan")}, "final_loss"),
        ({"final_loss": None}, "final_loss"),
        ({"samples_used": "many"}, "samples_used"),
    ],
)
def test_a_record_without_a_finite_loss_is_refused(volume: Volume, change: dict[str, Any], words: str) -> None:
    volume.write("training_run.json", json.dumps({**RECORD.model_dump(), **change}).encode())
    error = volume.error()
    assert error.reason is Reason.PUBLISH_FAILED
    assert f"training_run.json: {words}" in error.message


def test_a_missing_record_is_refused(volume: Volume) -> None:
    (volume.run / "training_run.json").unlink()
    assert "training_run.json cannot be read" in volume.error().message


def test_a_record_that_is_a_link_is_refused(volume: Volume) -> None:
    (volume.run / "training_run.json").rename(volume.run / "other.json")
    (volume.run / "training_run.json").symlink_to("other.json")
    assert "symbolic link" in volume.error().message


def test_a_model_of_another_run_is_never_replaced(volume: Volume) -> None:
    volume.model.mkdir(parents=True)
    (volume.model / "SHA256SUMS").write_text("another")
    assert "is there already" in volume.error().message
    assert (volume.model / "SHA256SUMS").read_text() == "another"


def test_a_run_without_an_artefact_is_an_error(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    volume.out.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="neither runs/uid-1/out nor models/home-soft-prompt-1"):
        volume.publish()


@pytest.mark.parametrize("field", ["run_uid", "model_name", "plugin"])
@pytest.mark.parametrize("value", ["../out", "a/b", "", ".", "a\0b"])
def test_names_that_leave_their_directory_are_refused(volume: Volume, field: str, value: str) -> None:
    assert volume.error(**{field: value}).reason is Reason.BAD_CONFIGURATION


def test_metrics_may_be_missing(volume: Volume) -> None:
    (volume.run / "metrics.jsonl").unlink()
    volume.publish()
    assert not (volume.model / "metrics.jsonl").exists()


def test_a_record_that_the_artefact_names_itself_stays_as_it_is(volume: Volume) -> None:
    files = {**FILES, "training_run.json": b"{}"}
    volume.write("out/training_run.json", b"{}")
    digest = volume.write_sums(files)
    volume.publish(expected_digest=digest)
    assert (volume.model / "training_run.json").read_bytes() == b"{}"


def test_a_stop_before_the_rename_ends_with_75_and_changes_nothing_that_others_see(
    volume: Volume, tmp_path: Path
) -> None:
    stop = StopFlag()
    stop.request()
    log = tmp_path / "termination-log"
    code = run_job(lambda flag: run_publish(volume.config(), volume.root, stop=flag), termination_log=log, stop=stop)
    assert code == ExitCode.PREEMPTED
    assert TerminationRecord.model_validate_json(log.read_bytes()).retryable
    assert volume.out.is_dir()
    assert not volume.model.exists()
    assert volume.publish().promoted


# What a container leaves


def foreign(volume: Volume, files: dict[str, bytes]) -> None:
    """Leave files as a container does: no record, no sums."""
    shutil.rmtree(volume.run)
    for name, content in files.items():
        volume.write(f"out/{name}", content)


def test_the_files_of_a_container_are_sealed_and_published_without_a_record(volume: Volume) -> None:
    foreign(volume, {"model.onnx": b"onnx", "card/README.md": b"# A model\n"})
    record = volume.publish(kind="files", expected_digest=None)
    sums = (volume.model / "SHA256SUMS").read_bytes()
    assert sorted(line.split()[1] for line in sums.decode().splitlines()) == ["card/README.md", "model.onnx"]
    assert record.digest == f"sha256:{hashlib.sha256(sums).hexdigest()}"
    assert (record.final_loss, record.samples, record.promoted) == (None, None, True)


def test_publishing_a_containers_files_twice_gives_the_same(volume: Volume) -> None:
    foreign(volume, {"model.json": b"{}"})
    assert volume.publish(kind="files", expected_digest=None) == volume.publish(kind="files", expected_digest=None)


def test_sums_of_the_containers_own_must_be_right(volume: Volume) -> None:
    foreign(volume, {"model.json": b"{}"})
    volume.write_sums({"model.json": b"other"})
    assert volume.error(kind="files", expected_digest=None).reason is Reason.DIGEST_MISMATCH


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib", "train.py", "lib.so"])
def test_a_containers_files_hold_no_code(volume: Volume, name: str) -> None:
    foreign(volume, {"model.json": b"{}", name: b"code"})
    assert volume.error(kind="files", expected_digest=None).reason is Reason.PUBLISH_FAILED


def test_a_container_must_leave_something(volume: Volume) -> None:
    foreign(volume, {})
    volume.out.mkdir(parents=True)
    assert "CHORUS_OUT_DIR" in volume.error(kind="files", expected_digest=None).hint


def test_a_record_that_a_container_leaves_must_be_right(volume: Volume) -> None:
    foreign(volume, {"model.json": b"{}"})
    volume.write("training_run.json", b'{"final_loss": NaN}')
    assert volume.error(kind="files", expected_digest=None).reason is Reason.PUBLISH_FAILED


def test_a_service_may_leave_no_artefact_and_then_nothing_is_published_or_promoted(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    volume.out.rename(tmp_path / "elsewhere")
    record = volume.publish(kind="files", optional=True, expected_digest=None)
    assert (record.outcome, record.digest, record.promoted) == ("succeeded", None, None)
    assert not volume.latest.is_symlink()
