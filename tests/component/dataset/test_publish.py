from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from chorus_api.reasons import ExitCode, Reason
from chorus_api.run_config import TerminationRecord
from chorus_client.stop import StopFlag
from chorus_dataset.errors import DataError
from chorus_dataset.jobs.job import run_job
from chorus_dataset.jobs.publish import run_publish
from publish_builders import FILES, ME, MODEL, RECORD, RUN, Volume, killed_before, uid


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
        model_name=MODEL,
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
    assert volume.latest.readlink() == Path(f"../models/{MODEL}")
    assert (volume.latest / "adapter_config.json").read_bytes() == b"{}"


def test_without_promotion_latest_stays(volume: Volume) -> None:
    volume.latest.parent.mkdir()
    volume.latest.symlink_to("../models/older")
    record = volume.publish(promote=False)
    assert volume.latest.readlink() == Path("../models/older")
    assert record.promoted is False
    assert volume.model.is_dir()


def test_publishing_twice_gives_the_same_result(volume: Volume) -> None:
    first = volume.publish()
    tree = volume.tree()
    assert volume.publish() == first
    assert volume.tree() == tree


STEPS = [
    "mark",
    "take",
    "sync taken",
    "add training_run.json",
    "add metrics.jsonl",
    "sync",
    "own model",
    "rename",
    "sync directories",
    "remove work directory",
    "own latest",
    "link",
    "promote",
    "sync latest",
    f"sweep {uid(3)}",
    f"remove {uid(3)}",
    f"unmark {uid(3)}",
]


def with_a_deleted_run(root: Path) -> Volume:
    volume = Volume(root)
    volume.old_run(uid(3), ME)
    return volume


def test_publishing_goes_by_these_steps(tmp_path: Path) -> None:
    steps: list[str] = []
    with_a_deleted_run(tmp_path).publish(step=steps.append)
    assert steps == STEPS


@pytest.mark.parametrize("step", STEPS)
def test_killed_before_any_step_and_run_again_it_gives_the_same_result(tmp_path: Path, step: str) -> None:
    whole, volume = with_a_deleted_run(tmp_path / "whole"), with_a_deleted_run(tmp_path / "killed")
    expected = whole.publish()
    killed_before(volume, step)
    assert volume.model.is_dir() == (STEPS.index(step) > STEPS.index("rename"))
    assert volume.publish() == expected
    assert volume.tree() == whole.tree()


@pytest.mark.parametrize("step", ["seal", "give back"])
def test_killed_while_a_containers_files_are_sealed_or_refused_it_is_the_same_again(tmp_path: Path, step: str) -> None:
    volume = Volume(tmp_path)
    foreign(volume, {"model.onnx": b"onnx"})
    volume.write("training_run.json", b"{}")
    killed_before(volume, step, kind="files", expected_digest=None)
    assert "training_run.json" in volume.error(kind="files", expected_digest=None).message


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
    assert f"runs/{RUN}/out/adapter_config.json is not what SHA256SUMS says" in error.message


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
    assert f"runs/{RUN}/out/{name}: files of this kind are not published" in error.message


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
    assert f"runs/{RUN}/out is no directory" in volume.error().message


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
    assert "is a symbolic link" in volume.error().message


def test_a_model_of_another_run_is_never_replaced(volume: Volume) -> None:
    volume.model.mkdir(parents=True)
    (volume.model / "SHA256SUMS").write_text("another")
    assert "is there already" in volume.error().message
    assert (volume.model / "SHA256SUMS").read_text() == "another"


def test_a_run_without_an_artefact_is_an_error(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    volume.out.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=f"neither runs/{RUN}/out nor models/{MODEL}"):
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
