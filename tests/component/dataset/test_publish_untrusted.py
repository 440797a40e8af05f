"""Publishing what a training has left in bad faith: nothing of others is read, written or waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chorus_api.reasons import Reason
from chorus_dataset.jobs import artefact
from chorus_dataset.jobs.model_directory import MAX_METRICS_BYTES
from chorus_dataset.jobs.run_record import MAX_RECORD_BYTES
from chorus_dataset.untrusted import Directory
from publish_builders import FILES, MODEL, RUN, Volume, killed_before, uid

SPARSE = 100 << 30
RUN_FILES = ["training_run.json", "metrics.jsonl"]
LIMITS = {"training_run.json": MAX_RECORD_BYTES, "metrics.jsonl": MAX_METRICS_BYTES}


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "volume")


@pytest.fixture
def victim(volume: Volume) -> Path:
    """Weights that another run has published."""
    path = volume.models / "victim" / "adapter_model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GOOD WEIGHTS")
    return path


def container_left(volume: Volume) -> None:
    """Leave an artefact without sums, as a container does."""
    for path in volume.out.rglob("*"):
        if path.is_file():
            path.unlink()
    volume.write("out/model.onnx", b"onnx")


@pytest.mark.parametrize("kind", ["adapter", "files"])
def test_links_at_names_that_publishing_might_write_overwrite_no_published_weights(
    volume: Volume, victim: Path, kind: str
) -> None:
    if kind == "files":
        container_left(volume)
    for name in ("metrics.jsonl.publish", "training_run.json.publish", "SHA256SUMS.new", ".tmp-SHA256SUMS"):
        (volume.run / name).symlink_to(victim)
    volume.publish(kind=kind, expected_digest=None)
    assert victim.read_bytes() == b"GOOD WEIGHTS"
    assert not [path for path in volume.model.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize("name", [*RUN_FILES, "out/SHA256SUMS", "out/README.md", "out"])
def test_a_link_is_refused_and_nothing_is_read_or_written_through_it(volume: Volume, victim: Path, name: str) -> None:
    path = volume.run / name
    path.rename(volume.run / "aside")
    path.symlink_to(victim)
    assert volume.error().reason is Reason.PUBLISH_FAILED
    assert victim.read_bytes() == b"GOOD WEIGHTS"
    assert not volume.model.exists()


@pytest.mark.parametrize("name", [*RUN_FILES, "out/SHA256SUMS", "out/README.md"])
def test_a_fifo_is_refused_and_not_waited_for(volume: Volume, name: str) -> None:
    (volume.run / name).unlink()
    os.mkfifo(volume.run / name)
    error = volume.error()
    assert error.reason is Reason.PUBLISH_FAILED
    assert "plain file" in error.message


@pytest.mark.parametrize(("name", "limit"), LIMITS.items())
def test_a_sparse_file_of_100_gb_is_refused_before_it_is_read(volume: Volume, name: str, limit: int) -> None:
    os.truncate(volume.run / name, SPARSE)
    error = volume.error()
    assert error.reason is Reason.PUBLISH_FAILED
    assert f"{name}" in error.message
    assert f"has {SPARSE:,} bytes; at most {limit:,} are taken" in error.message


def test_sums_of_100_gb_are_refused_before_they_are_read(volume: Volume) -> None:
    os.truncate(volume.out / "SHA256SUMS", SPARSE)
    assert "SHA256SUMS has 107,374,182,400 bytes" in volume.error().message


def test_an_artefact_that_says_to_be_larger_than_its_volume_is_refused_before_it_is_read(volume: Volume) -> None:
    volume.write("out/huge.safetensors", b"")
    os.truncate(volume.out / "huge.safetensors", 8 << 40)
    assert "says to have 8,796,093,02" in volume.error().message


@pytest.mark.parametrize("name", [*RUN_FILES, "out/README.md", "out/SHA256SUMS"])
def test_a_file_with_a_second_name_is_refused_for_it_could_be_changed_after_the_check(
    volume: Volume, name: str
) -> None:
    os.link(volume.run / name, volume.run / "kept-open")
    error = volume.error()
    assert error.reason is Reason.PUBLISH_FAILED
    assert "has 2 names" in error.message


def test_what_was_hashed_is_what_is_published(volume: Volume) -> None:
    """Whoever still writes to the run's directory writes to nothing that is published."""

    def write_again(step: str) -> None:
        if step not in ("mark", "take"):
            volume.write("out/adapter_model.safetensors", b"EVIL WEIGHTS")

    volume.publish(step=write_again)
    assert (volume.model / "adapter_model.safetensors").read_bytes() == FILES["adapter_model.safetensors"]


def test_what_was_taken_first_is_published_when_publishing_is_cut_off_and_out_is_there_again(volume: Volume) -> None:
    killed_before(volume, "sync taken")
    volume.write("out/adapter_model.safetensors", b"EVIL WEIGHTS")
    assert volume.publish().digest == volume.digest
    assert (volume.model / "adapter_model.safetensors").read_bytes() == FILES["adapter_model.safetensors"]


def test_a_large_artefact_is_moved_and_not_copied(volume: Volume) -> None:
    before = (volume.out / "adapter_model.safetensors").stat().st_ino
    volume.publish()
    assert (volume.model / "adapter_model.safetensors").stat().st_ino == before


def test_a_refused_artefact_goes_back_to_its_run_and_is_refused_again(volume: Volume) -> None:
    volume.write("out/README.md", b"changed")
    for _ in range(2):
        assert volume.error().reason is Reason.DIGEST_MISMATCH
        assert (volume.out / "README.md").read_bytes() == b"changed"


def test_without_room_for_what_is_added_nothing_is_published(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum((volume.run / name).stat().st_size for name in RUN_FILES)
    monkeypatch.setattr(Directory, "free_bytes", lambda _: needed - 1)
    error = volume.error()
    assert (error.reason, error.retryable) == (Reason.VOLUME_FULL, False)
    assert f"needs {needed} bytes, but the Project's volume has {needed - 1} bytes free" in error.message
    assert "have it enlarged" in error.hint
    monkeypatch.setattr(Directory, "free_bytes", lambda _: needed)
    assert volume.publish().promoted


def test_without_room_for_the_sums_of_a_container_nothing_is_published(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    container_left(volume)
    monkeypatch.setattr(Directory, "free_bytes", lambda _: 10)
    assert volume.error(kind="files", expected_digest=None).reason is Reason.VOLUME_FULL


def test_a_tree_that_is_too_deep_is_refused(volume: Volume) -> None:
    (volume.out / "/".join(["d"] * artefact.MAX_DEPTH)).mkdir(parents=True)
    assert "has more than 16 levels of directories" in volume.error().message


def test_a_tree_of_too_many_entries_is_refused(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefact, "MAX_ENTRIES", 50)
    for number in range(50):
        (volume.out / f"{number}").mkdir()
    assert "has more than 50 files and directories" in volume.error().message


@pytest.mark.parametrize("place", ["models", "models/.publishing", "models/.owners", "runs"])
def test_a_place_of_chorus_that_is_a_link_is_not_followed(volume: Volume, place: str) -> None:
    path, elsewhere = volume.root / place, volume.root / "elsewhere"
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.rename(elsewhere)
    elsewhere.mkdir(exist_ok=True)
    path.symlink_to(elsewhere)
    before = sorted(str(each) for each in elsewhere.rglob("*"))
    with pytest.raises(Exception, match="link or no directory"):
        volume.publish()
    assert sorted(str(each) for each in elsewhere.rglob("*")) == before


def test_a_model_whose_name_another_run_has_taken_is_not_passed_off_as_this_runs(volume: Volume) -> None:
    Volume(volume.root, run=uid(2)).publish()
    volume.out.rename(volume.root / "elsewhere")
    with pytest.raises(Exception, match=f"models/{MODEL} is of another run, {uid(2)}"):
        volume.publish()


def test_where_a_kill_left_the_artefact_is_known_by_the_runs_uid(volume: Volume) -> None:
    killed_before(volume, "sync taken")
    assert (volume.models / ".publishing" / RUN / "out" / "README.md").is_file()


@pytest.mark.parametrize("name", ["a\u2028b.json", "a\u2029b.json", "modèle d'été.json", "a b.json", "模型.json"])
@pytest.mark.parametrize("kind", ["adapter", "files"])
def test_any_printable_name_of_a_file_is_published(volume: Volume, name: str, kind: str) -> None:
    if kind == "files":
        container_left(volume)
    volume.write(f"out/{name}", b"{}")
    digest = volume.write_sums({**FILES, name: b"{}"}) if kind == "adapter" else None
    volume.publish(kind=kind, expected_digest=digest)
    assert (volume.model / name).read_bytes() == b"{}"


@pytest.mark.parametrize(
    "name", [b"mod\xe8le.json", b"a\nb.json", "a\x85b.json".encode(), b"a\x7f.json", b"d\xe8/a.json"]
)
@pytest.mark.parametrize("kind", ["adapter", "files"])
def test_a_name_that_no_line_of_the_sums_can_hold_is_refused_and_shown_in_escapes(
    volume: Volume, name: bytes, kind: str
) -> None:
    if kind == "files":
        container_left(volume)
    path = Path(os.fsdecode(os.path.join(os.fsencode(volume.out), name)))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"{}")
    error = volume.error(kind=kind, expected_digest=None)
    assert (error.reason, error.retryable) == (Reason.PUBLISH_FAILED, False)
    assert error.message.isprintable()
    assert repr(os.fsdecode(name.split(b"/")[0])) in error.message


def test_sums_with_the_line_ends_of_windows_are_read(volume: Volume) -> None:
    volume.write("out/SHA256SUMS", (volume.out / "SHA256SUMS").read_bytes().replace(b"\n", b"\r\n"))
    assert volume.publish(expected_digest=None).promoted
