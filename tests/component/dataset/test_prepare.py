from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chorus_api.reasons import ExitCode, Reason
from chorus_api.run_config import PrepareConfig, TerminationRecord
from chorus_client.sender import Pace, Sender
from chorus_client.stop import StopFlag, Stopped
from chorus_dataset.__main__ import main
from chorus_dataset.errors import DataError
from chorus_dataset.frame.manifest import MAX_BYTES, fit, manifest_bytes
from chorus_dataset.jobs import prepare
from chorus_dataset.jobs.prepare import run_prepare
from chorus_dataset.readers.source_file import SourceFile
from chorus_protocol.messages import ColumnProfile, FrameManifest, FrameReady, RejectedRows
from dataset_builders import (
    PROMPT_AND_RESPONSE,
    Frame,
    Preparer,
    csv_text,
    jsonl_text,
    prepare_config,
    requests,
    write_parquet,
    write_sqlite,
)
from message_receiver import Receiver
from unprivileged import directory_of_a_user, without_rights_of_root

FAST = Pace(first_backoff=0.01, longest_backoff=0.05, longest_backoff_closing=0.05)


def sending(config: PrepareConfig, receiver: Receiver) -> tuple[PrepareConfig, Sender]:
    config = config.model_copy(update={"messaging": receiver.messaging()})
    return config, Sender(config.messaging, attempt=0, pace=FAST)


def test_a_frame_is_reported_until_it_is_acknowledged(preparer: Preparer, receiver: Receiver) -> None:
    receiver.answer(503)
    receiver.answer(429)
    path = preparer.file("a.csv", csv_text(requests(50)))
    config, sender = sending(prepare_config(path), receiver)
    record = run_prepare(config, preparer.volume, stop=StopFlag(), sender=sender, deliver_seconds=20)
    assert receiver.types == ["FRAME_READY"] * 3
    ready = FrameReady.model_validate(receiver.posts[-1].event["data"])
    assert (ready.project_id, ready.prepare_key) == (7, "key-1")
    folder = preparer.volume / "frames" / ready.frame.name
    assert FrameManifest.model_validate_json((folder / "frame.json").read_bytes()) == ready.frame
    assert (record.outcome, record.digest, record.samples) == ("succeeded", ready.frame.digest, ready.frame.rows)


def test_bad_data_is_reported_with_its_reason_and_hint(preparer: Preparer, receiver: Receiver) -> None:
    path = preparer.file("a.csv", "Question,answer\na,b\n")
    config, sender = sending(prepare_config(path, fields=PROMPT_AND_RESPONSE), receiver)
    with pytest.raises(DataError):
        run_prepare(config, preparer.volume, stop=StopFlag(), sender=sender, deliver_seconds=20)
    (post,) = receiver.posts
    assert receiver.types == ["FRAME_FAILED"]
    assert post.event["data"]["reason"] == "ColumnNotFound"
    assert "spec.dataset.fields.prompt.column" in post.event["data"]["detail"]
    assert "did you mean 'Question'?" in post.event["data"]["detail"]


def test_a_frame_that_nobody_acknowledges_is_an_error_to_be_retried(preparer: Preparer, receiver: Receiver) -> None:
    config, _ = sending(prepare_config(preparer.file("a.csv", csv_text(requests(5)))), receiver)
    nowhere = config.messaging.model_copy(update={"url": "https://127.0.0.1:1/"})
    sender = Sender(nowhere, attempt=0, pace=FAST)
    with pytest.raises(DataError, match="did not acknowledge FRAME_READY") as caught:
        run_prepare(config, preparer.volume, stop=StopFlag(), sender=sender, deliver_seconds=0.3)
    assert caught.value.retryable
    assert caught.value.exit_code == ExitCode.INTERNAL


def test_a_frame_that_is_refused_is_an_error_with_the_receivers_words(preparer: Preparer, receiver: Receiver) -> None:
    receiver.answer(403, body="not the pod of this prepare Job")
    config, sender = sending(prepare_config(preparer.file("a.csv", csv_text(requests(5)))), receiver)
    with pytest.raises(DataError, match="not the pod of this prepare Job") as caught:
        run_prepare(config, preparer.volume, stop=StopFlag(), sender=sender, deliver_seconds=20)
    assert not caught.value.retryable


def test_a_stop_while_waiting_for_the_acknowledgement_ends_the_wait(preparer: Preparer, receiver: Receiver) -> None:
    receiver.gate.clear()
    stop = StopFlag()
    config, sender = sending(prepare_config(preparer.file("a.csv", csv_text(requests(5)))), receiver)
    stop_after_start(receiver, stop)
    with pytest.raises(Stopped):
        run_prepare(config, preparer.volume, stop=stop, sender=sender, deliver_seconds=60)


def stop_after_start(receiver: Receiver, stop: StopFlag) -> None:
    """Set the flag as soon as the receiver has a message."""
    import threading

    def work() -> None:
        receiver.wait_for_posts(1)
        stop.request()

    threading.Thread(target=work, daemon=True).start()


def test_equal_content_uses_the_frame_that_is_there(preparer: Preparer) -> None:
    first = preparer.content("a.csv", csv_text(requests(30)), eval_fraction="0.1")
    times = {path.name: path.stat().st_mtime_ns for path in first.folder.glob("*.parquet")}
    again = preparer.content("b.jsonl", jsonl_text(requests(30)), eval_fraction="0.1", info={"season": "winter"})
    assert again.folder == first.folder
    assert {path.name: path.stat().st_mtime_ns for path in first.folder.glob("*.parquet")} == times
    written = FrameManifest.model_validate_json((first.folder / "frame.json").read_bytes())
    assert written.info == {"season": "winter"}, "what the digest does not cover is brought up to date"
    assert {path.name for path in (preparer.volume / "frames").iterdir()} == {".users", first.folder.name}


@pytest.mark.parametrize("file", ["frame.json", "train.parquet", "eval.parquet"])
def test_a_damaged_frame_is_replaced(preparer: Preparer, file: str) -> None:
    first = preparer.content("a.csv", csv_text(requests(30)), eval_fraction="0.1")
    (first.folder / file).write_bytes(b"")
    again = preparer.content("a.csv", csv_text(requests(30)), eval_fraction="0.1")
    assert again.folder == first.folder
    assert len(again.train) + len(again.eval) == 30


def same_data_of(preparer: Preparer, project: str) -> Frame:
    return preparer.content(f"{project}.csv", csv_text(requests(30)), eval_fraction="0.1", project_uid=project)


def test_an_equal_frame_that_another_project_finishes_meanwhile_is_used_and_stays(
    preparer: Preparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs: list[tuple[Path, int]] = []

    def sync_slowly(_: Path) -> None:
        monkeypatch.undo()
        other = same_data_of(preparer, "theirs")
        theirs.append((other.folder, other.folder.stat().st_ino))

    monkeypatch.setattr(prepare, "sync_tree", sync_slowly)
    ours = same_data_of(preparer, "ours")
    assert theirs == [(ours.folder, ours.folder.stat().st_ino)]
    assert len(ours.train) + len(ours.eval) == 30


@pytest.mark.parametrize("looks_before", range(5))
def test_an_intact_frame_that_takes_the_place_of_a_damaged_one_at_any_moment_stays(
    preparer: Preparer, monkeypatch: pytest.MonkeyPatch, looks_before: int
) -> None:
    first = same_data_of(preparer, "first")
    (first.folder / "train.parquet").write_bytes(b"")
    real, looks, inodes = prepare._is_intact, list[None](), list[int]()

    def look(target: Path, manifest: FrameManifest) -> bool:
        found = real(target, manifest)
        if target == first.folder:
            looks.append(None)
            if len(looks) == looks_before + 1:
                monkeypatch.undo()
                inodes.append(same_data_of(preparer, "theirs").folder.stat().st_ino)
        return found

    monkeypatch.setattr(prepare, "_is_intact", look)
    ours = same_data_of(preparer, "ours")
    assert inodes in ([], [ours.folder.stat().st_ino])
    assert bool(inodes) is (looks_before < 4), "the damaged frame is looked at four times"
    assert len(ours.train) + len(ours.eval) == 30


def test_a_frame_can_be_read_and_replaced_by_the_group(preparer: Preparer) -> None:
    before = os.umask(0o002)
    try:
        frame = preparer.content("a.csv", csv_text(requests(30)))
    finally:
        os.umask(before)
    assert stat.S_IMODE(frame.folder.stat().st_mode) == 0o775
    assert {stat.S_IMODE(path.stat().st_mode) for path in frame.folder.iterdir()} == {0o664}


def test_stopping_leaves_nothing_behind(preparer: Preparer) -> None:
    stop = StopFlag()
    stop.request()
    with pytest.raises(Stopped):
        preparer.content("a.csv", csv_text(requests(30)), check=stop.check)
    assert list((preparer.volume / "frames").iterdir()) == []


def test_what_crashed_processes_left_is_removed_after_a_day(preparer: Preparer) -> None:
    frames = preparer.volume / "frames"
    for name, age in ((".chorus-work-old", 2 * 86400), (".chorus-work-new", 0)):
        (frames / name).mkdir(parents=True)
        os.utime(frames / name, (1_700_000_000, (frames / name).stat().st_mtime - age))
    frame = preparer.content("a.csv", csv_text(requests(5)))
    assert {path.name for path in frames.iterdir()} == {".chorus-work-new", ".users", frame.folder.name}


def test_what_others_keep_beside_the_frames_stays_whatever_it_is_called(preparer: Preparer) -> None:
    frames = preparer.volume / "frames"
    for name in (".tmp-video-17", "frame_0001", ".chorus-work"):
        (frames / name).mkdir(parents=True)
        os.utime(frames / name, (0, 0))
    (frames / ".chorus-work-link").symlink_to(frames / "frame_0001")
    preparer.content("a.csv", csv_text(requests(5)))
    assert {".tmp-video-17", "frame_0001", ".chorus-work", ".chorus-work-link"} < {p.name for p in frames.iterdir()}


def source_on_a_volume(preparer: Preparer, tmp_path: Path, name: str) -> DataError:
    """Prepare from a file of a volume that others write to; return the error."""
    with pytest.raises(DataError) as caught:
        preparer.frame(
            tmp_path / "source" / name,
            source_root=str(tmp_path / "source"),
            query="SELECT * FROM asked" if name.endswith(".db") else None,
        )
    return caught.value


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "db"])
@pytest.mark.parametrize("how", ["absolute", "relative", "directory"])
def test_a_link_out_of_the_sources_volume_is_not_followed(
    preparer: Preparer, tmp_path: Path, ending: str, how: str
) -> None:
    """The prepare pod has a token, Secrets and the whole claim: none of that is data."""
    (tmp_path / "source").mkdir()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / f"rows.{ending}").write_text(csv_text(requests(5)))
    if how == "directory":
        (tmp_path / "source" / "sub").symlink_to("../secrets")
        error = source_on_a_volume(preparer, tmp_path, f"sub/rows.{ending}")
    else:
        start = tmp_path if how == "absolute" else Path("..")
        (tmp_path / "source" / f"rows.{ending}").symlink_to(start / "secrets" / f"rows.{ending}")
        error = source_on_a_volume(preparer, tmp_path, f"rows.{ending}")
    assert error.reason is Reason.FILE_NOT_FOUND
    assert "out of its volume" in error.message or "link that is absolute" in error.message


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "db"])
def test_a_source_that_is_a_fifo_is_refused_and_not_waited_for(preparer: Preparer, tmp_path: Path, ending: str) -> None:
    (tmp_path / "source").mkdir()
    os.mkfifo(tmp_path / "source" / f"rows.{ending}")
    assert "is no plain file" in source_on_a_volume(preparer, tmp_path, f"rows.{ending}").message


def test_a_fifo_beside_a_database_is_refused_and_not_waited_for(preparer: Preparer, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    write_sqlite(tmp_path / "source" / "rows.db", requests(5))
    os.mkfifo(tmp_path / "source" / "rows.db-wal")
    assert "rows.db-wal is no plain file" in source_on_a_volume(preparer, tmp_path, "rows.db").message


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "db"])
def test_a_source_in_the_mount_of_a_config_map_or_behind_links_of_its_volume_is_read(
    preparer: Preparer, tmp_path: Path, ending: str
) -> None:
    folder = tmp_path / "source" / "..2026_01_01"
    folder.mkdir(parents=True)
    real = folder / f"rows.{ending}"
    match ending:
        case "csv":
            real.write_text(csv_text(requests(5)))
        case "jsonl":
            real.write_text(jsonl_text(requests(5)))
        case "parquet":
            write_parquet(real, requests(5))
        case _:
            write_sqlite(real, requests(5))
    (tmp_path / "source" / "..data").symlink_to("..2026_01_01")
    (tmp_path / "source" / f"rows.{ending}").symlink_to(f"..data/rows.{ending}")
    frame = preparer.frame(
        tmp_path / "source" / f"rows.{ending}",
        source_root=str(tmp_path / "source"),
        query="SELECT * FROM asked" if ending == "db" else None,
    )
    assert len(frame.train) + len(frame.eval) == 5


@pytest.mark.parametrize(
    ("name", "changes", "reason", "words"),
    [
        ("a.csv", {}, Reason.FILE_NOT_FOUND, "the file a.csv does not exist"),
        ("a.dat", {}, Reason.FORMAT_UNKNOWN, "spec.dataset.format"),
        ("a.csv", {"query": "SELECT 1"}, Reason.BAD_CONFIGURATION, "spec.dataset.query is set, but a.csv is csv"),
        ("a.csv", {"eval_fraction": "2"}, Reason.BAD_CONFIGURATION, "spec.dataset.evalFraction is '2'"),
        (".", {"format": "csv"}, Reason.FILE_NOT_FOUND, "is a directory"),
    ],
)
def test_what_cannot_be_read_is_named(
    preparer: Preparer, name: str, changes: dict[str, Any], reason: Reason, words: str
) -> None:
    with pytest.raises(DataError) as caught:
        preparer.frame(preparer.folder / name, **changes)
    assert caught.value.reason is reason
    assert words in caught.value.detail


def test_a_file_that_may_not_be_read_is_named() -> None:
    with directory_of_a_user() as folder:
        (folder / "root-only.csv").write_text("prompt\n")
        (folder / "root-only.csv").chmod(0o000)
        with without_rights_of_root(folder), pytest.raises(DataError) as caught:
            SourceFile(folder / "root-only.csv", root=folder, where="claim home, path root-only.csv")
    assert caught.value.reason is Reason.FILE_NOT_FOUND
    assert caught.value.message == "the file claim home, path root-only.csv cannot be read: Permission denied"


def run(config: PrepareConfig | str, folder: Path) -> tuple[int, TerminationRecord]:
    """Run the Job's own entry point, and read its termination record."""
    path, log = folder / "job.json", folder / "termination-log"
    path.write_text(config if isinstance(config, str) else config.model_dump_json())
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    umask = os.umask(0o022)
    try:
        code = main(
            ["prepare", "--config", str(path), "--volume", str(folder / "volume"), "--termination-log", str(log)]
        )
    finally:
        os.umask(umask)
        for number, handler in before.items():
            signal.signal(number, handler)
    return code, TerminationRecord.model_validate_json(log.read_bytes())


def test_the_job_ends_with_0_and_a_record(preparer: Preparer, receiver: Receiver, tmp_path: Path) -> None:
    config = prepare_config(preparer.file("a.csv", csv_text(requests(30))), messaging=receiver.messaging())
    code, record = run(config, tmp_path)
    assert code == ExitCode.DONE
    assert (record.outcome, record.reason) == ("succeeded", "FrameReady")
    assert receiver.types == ["FRAME_READY"]


@pytest.mark.parametrize(
    ("content", "changes", "code", "reason"),
    [
        ("question\n", {}, ExitCode.BAD_DATA, "NoRows"),
        ("question\na\n", {"fields": PROMPT_AND_RESPONSE}, ExitCode.BAD_CONFIGURATION, "ColumnNotFound"),
    ],
)
def test_the_job_ends_with_the_code_of_its_error(
    preparer: Preparer,
    receiver: Receiver,
    tmp_path: Path,
    content: str,
    changes: dict[str, Any],
    code: int,
    reason: str,
) -> None:
    config = prepare_config(preparer.file("a.csv", content), messaging=receiver.messaging(), **changes)
    ended, record = run(config, tmp_path)
    assert ended == code
    assert (record.outcome, record.reason, record.retryable) == ("failed", reason, False)
    assert record.message
    assert receiver.types == ["FRAME_FAILED"]


@pytest.mark.parametrize("config", ["{}", "not JSON"])
def test_a_configuration_that_is_not_right_ends_with_64(tmp_path: Path, config: str) -> None:
    code, record = run(config, tmp_path)
    assert code == ExitCode.BAD_CONFIGURATION
    assert record.reason == "BadConfiguration"
    assert "job.json" in record.message


def test_sigterm_ends_the_job_with_75(preparer: Preparer, receiver: Receiver, tmp_path: Path) -> None:
    receiver.gate.clear()
    config = prepare_config(preparer.file("a.csv", csv_text(requests(30))), messaging=receiver.messaging())
    (tmp_path / "job.json").write_text(config.model_dump_json())
    log = tmp_path / "termination-log"
    arguments = [
        "--config",
        str(tmp_path / "job.json"),
        "--volume",
        str(preparer.volume),
        "--termination-log",
        str(log),
    ]
    process = subprocess.Popen([sys.executable, "-m", "chorus_dataset", "prepare", *arguments])
    try:
        receiver.wait_for_posts(1)
        process.terminate()
        assert process.wait(20) == ExitCode.PREEMPTED
    finally:
        process.kill()
        process.wait(20)
    assert json.loads(log.read_text())["outcome"] == "preempted"


def manifest(columns: int, *, name: int = 10, text: str = "x" * 60) -> FrameManifest:
    profiles = [
        ColumnProfile(name=f"{index:0{name}}", type="string", nulls=1, distinct=2, min=text, max=text, max_length=60)
        for index in range(columns)
    ]
    rejected = [RejectedRows(reason="NulByte", count=9, examples=[text] * 5)]
    return FrameManifest(
        name="df-0", digest="sha256:0", rows=1, eval_rows=0, read_rows=1, columns=profiles, rejected=rejected
    )


def test_a_small_manifest_stays_as_it_is() -> None:
    assert fit(manifest(50)) == manifest(50)


@pytest.mark.parametrize("text", ["x" * 60, "ü" * 60])
def test_a_manifest_of_500_columns_fits_into_a_message(text: str) -> None:
    fitted = fit(manifest(500, text=text))
    assert manifest_bytes(fitted) <= MAX_BYTES
    assert len(fitted.columns) == 500
    assert fitted.rejected[0].count == 9


def test_names_that_are_too_long_for_a_message_are_an_error() -> None:
    with pytest.raises(DataError, match="the 500 columns have names of 125,000 characters"):
        fit(manifest(500, name=250))


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """By the benchmark itself, with long texts, so that it takes seconds; twice the limit if all rows were held."""
    benchmark = Path(__file__).parents[3] / "benchmarks" / "prepare_memory.py"
    options = ["--megabytes", "100", "--characters", "50000", "--limit", "260", "--dir", str(tmp_path)]
    done = subprocess.run([sys.executable, str(benchmark), *options], stdout=subprocess.PIPE, text=True, timeout=110)
    assert done.returncode == 0, done.stdout
