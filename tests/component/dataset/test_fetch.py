from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chorus_api.reasons import ExitCode, Reason
from chorus_api.run_config import FetchConfig, TerminationRecord
from chorus_client.stop import StopFlag, Stopped
from chorus_dataset.errors import DataError
from chorus_dataset.jobs import fetch as fetching
from chorus_dataset.jobs.fetch import BaseRecord, fetch_model
from chorus_dataset.untrusted import Directory
from fake_hub import COMMIT, Hub, serving_hub
from local_sources import job_command, local_egress
from source_builders import service_account_token

WANTED = {
    "model.safetensors": b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ",
    "config.json": b'{"model_type": "t5"}',
    "tokenizer.json": b"{}",
    "spiece.model": b"pieces",
    "merges.txt": b"a b",
    "chat_template.jinja": b"{{ messages }}",
}
UNWANTED = {
    "pytorch_model.bin": b"pickle",
    "modeling_t5.py": b"code",
    "README.md": b"# T5",
    "model.fp16.safetensors": b"the same again",
    "onnx/model.json": b"{}",
    ".gitattributes": b"",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving_hub(Hub(models={"lab/tiny-t5": {**WANTED, **UNWANTED}})) as running:
        yield running


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return tmp_path / "volume"


def config(**changes: Any) -> FetchConfig:
    values = {"uri": "hf://lab/tiny-t5", "revision": None, "base_key": "tiny-t5-0f1e", "project_uid": "uid-a"}
    return FetchConfig.model_validate({**values, **changes})


def fetch(hub: Hub, volume: Path, **changes: Any) -> BaseRecord:
    return fetch_model(config(**changes), volume, stop=StopFlag(), endpoint=hub.url, egress=local_egress())


def failure(hub: Hub, volume: Path, **changes: Any) -> DataError:
    """Fetch what cannot be fetched; return the error, and see that there is no model."""
    with pytest.raises(DataError) as caught:
        fetch(hub, volume, **changes)
    assert not (volume / "base" / "tiny-t5-0f1e").exists()
    return caught.value


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_weights_configuration_and_tokenizer_are_fetched_and_nothing_else(hub: Hub, volume: Path) -> None:
    fetch(hub, volume)
    found = files(volume / "base" / "tiny-t5-0f1e")
    del found["base.json"]
    assert found == WANTED
    assert [path.name for path in (volume / "base").iterdir()] == ["tiny-t5-0f1e"]


@pytest.mark.parametrize("revision", [None, "v1", COMMIT])
def test_the_record_names_the_commit_and_the_files(hub: Hub, volume: Path, revision: str | None) -> None:
    record = fetch(hub, volume, revision=revision)
    assert (record.uri, record.revision, record.commit) == ("hf://lab/tiny-t5", revision, COMMIT)
    assert {file.path: file.sha256 for file in record.files} == {
        name: hashlib.sha256(content).hexdigest() for name, content in WANTED.items()
    }
    assert record.bytes == sum(map(len, WANTED.values()))
    assert record.digest.startswith("sha256:")
    written = (volume / "base" / "tiny-t5-0f1e" / "base.json").read_bytes()
    assert BaseRecord.model_validate_json(written) == record


def test_a_model_that_is_there_is_not_asked_for_again(hub: Hub, volume: Path) -> None:
    first = fetch(hub, volume)
    hub.requests.clear()
    assert fetch(hub, volume) == first
    assert hub.requests == []


def test_a_model_of_which_a_file_is_missing_is_fetched_again(hub: Hub, volume: Path) -> None:
    first = fetch(hub, volume)
    (volume / "base" / "tiny-t5-0f1e" / "model.safetensors").unlink()
    assert fetch(hub, volume) == first
    assert (volume / "base" / "tiny-t5-0f1e" / "model.safetensors").exists()


@pytest.mark.parametrize(("field", "value"), [("uri", "hf://lab/other"), ("revision", "v2")])
def test_a_model_of_another_address_or_revision_under_the_key_is_neither_used_nor_replaced(
    hub: Hub, volume: Path, field: str, value: str
) -> None:
    """The key is 40 bits of a hash."""
    record = fetch(hub, volume)
    place = volume / "base" / "tiny-t5-0f1e"
    (place / "base.json").write_text(record.model_copy(update={field: value}).model_dump_json(by_alias=True))
    before = files(place)
    with pytest.raises(DataError, match="base/tiny-t5-0f1e of the claim holds hf://lab/") as caught:
        fetch(hub, volume)
    assert value in caught.value.message
    assert "delete base/tiny-t5-0f1e" in caught.value.hint
    assert (caught.value.reason, caught.value.retryable) == (Reason.BASE_MODEL_NOT_FOUND, False)
    assert files(place) == before


@pytest.mark.parametrize("kind", ["directory", "file", "link"])
def test_what_chorus_did_not_fetch_stays_where_a_model_should_be(hub: Hub, volume: Path, kind: str) -> None:
    place = volume / "base" / "tiny-t5-0f1e"
    (volume / "theirs").mkdir(parents=True)
    (volume / "theirs" / "weights.bin").write_bytes(b"theirs")
    place.parent.mkdir()
    if kind == "directory":
        (volume / "theirs").rename(place)
    elif kind == "file":
        place.write_bytes(b"theirs")
    else:
        place.symlink_to("../theirs")
    before = place.lstat().st_ino
    with pytest.raises(DataError, match="of Chorus's, and not hf://lab/tiny-t5"):
        fetch(hub, volume)
    assert place.lstat().st_ino == before
    assert b"theirs" in (*files(volume).values(),)


def test_a_stopped_fetch_leaves_no_model_and_goes_on_where_it_was(
    hub: Hub, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StopFlag()
    checks: list[None] = []

    def check() -> None:
        checks.append(None)
        if len(checks) == 4:
            raise Stopped("stopped by SIGTERM")

    monkeypatch.setattr(stop, "check", check)
    with pytest.raises(Stopped):
        fetch_model(config(), volume, stop=stop, endpoint=hub.url, egress=local_egress())
    assert not (volume / "base" / "tiny-t5-0f1e").exists()
    fetched = [request for request in hub.requests if request.startswith("GET /lab")]
    assert len(fetched) == 3
    hub.requests.clear()
    fetch(hub, volume)
    assert not set(fetched) & set(hub.requests)


def test_a_token_is_sent_where_one_is_given(hub: Hub, volume: Path, tmp_path: Path) -> None:
    hub.token = "hub-token"
    (tmp_path / "token").write_text("hub-token\n")
    fetch(hub, volume, token_file=str(tmp_path / "token"))
    assert hub.tokens == {"Bearer hub-token"}


def test_no_token_is_sent_where_none_is_given(hub: Hub, volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "somebody-elses")
    fetch(hub, volume)
    assert hub.tokens == {None}


def test_the_token_of_a_service_account_is_sent_to_no_hub(hub: Hub, volume: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{service_account_token()}\n")
    error = failure(hub, volume, token_file=str(tmp_path / "token"))
    assert error.reason is Reason.BAD_CONFIGURATION
    assert "holds the token of a Kubernetes service account" in error.message
    assert hub.requests == []


def test_a_token_that_cannot_be_read_is_an_error(hub: Hub, volume: Path, tmp_path: Path) -> None:
    error = failure(hub, volume, token_file=str(tmp_path / "absent"))
    assert error.reason is Reason.BAD_CONFIGURATION
    assert "secretRef" in error.hint


@pytest.mark.parametrize(
    ("change", "changes", "words"),
    [
        ({}, {"uri": "hf://lab/absent"}, "hf://lab/absent does not exist on the hub, or may not be read"),
        ({}, {"revision": "v9"}, "hf://lab/tiny-t5 has no revision 'v9'"),
        ({"token": "needed"}, {}, "may not be read"),
        ({"gated": True}, {}, "accepted its terms"),
        ({"status": 403}, {}, "does not let hf://lab/tiny-t5 be read"),
    ],
)
def test_a_model_that_cannot_be_had_is_named_with_the_cause(
    hub: Hub, volume: Path, change: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    for name, value in change.items():
        setattr(hub, name, value)
    error = failure(hub, volume, **changes)
    assert error.reason is Reason.BASE_MODEL_NOT_FOUND
    assert error.exit_code == ExitCode.BAD_CONFIGURATION
    assert words in error.message
    assert error.hint
    assert not error.retryable


def test_a_hub_in_trouble_is_an_error_to_be_retried(hub: Hub, volume: Path) -> None:
    hub.status = 503
    error = failure(hub, volume)
    assert (error.reason, error.retryable, error.exit_code) == (Reason.INTERNAL_ERROR, True, ExitCode.INTERNAL)
    assert "HTTP 503" in error.message


def test_a_hub_that_cannot_be_reached_is_an_error_to_be_retried(hub: Hub, volume: Path) -> None:
    hub.url = "http://127.0.0.1:1"
    error = failure(hub, volume)
    assert (error.reason, error.retryable) == (Reason.INTERNAL_ERROR, True)
    assert "the hub cannot be reached for hf://lab/tiny-t5" in error.message


@pytest.mark.parametrize(
    ("lost", "words"), [("model.safetensors", "weights in .safetensors"), ("config.json", "config.json")]
)
def test_a_model_without_weights_or_configuration_is_an_error_that_lists_its_files(
    hub: Hub, volume: Path, lost: str, words: str
) -> None:
    del hub.models["lab/tiny-t5"][lost]
    hub.models["lab/tiny-t5"].pop("model.fp16.safetensors")
    error = failure(hub, volume)
    assert error.reason is Reason.BASE_MODEL_NOT_FOUND
    assert f"hf://lab/tiny-t5 has no {words}" in error.message
    assert "pytorch_model.bin" in error.message


def test_weights_in_several_files_are_all_fetched(hub: Hub, volume: Path) -> None:
    model = hub.models["lab/tiny-t5"]
    weights = model.pop("model.safetensors")
    parts = {f"model-0000{part}-of-00002.safetensors": weights for part in (1, 2)}
    model.update({**parts, "model.safetensors.index.json": b"{}"})
    names = {file.path for file in fetch(hub, volume).files}
    assert {*parts, "model.safetensors.index.json"} <= names
    assert "model.fp16.safetensors" not in names


def test_weights_that_arrive_damaged_are_not_kept(hub: Hub, volume: Path) -> None:
    hub.damaged.add("model.safetensors")
    error = failure(hub, volume)
    assert "model.safetensors arrived damaged" in error.message
    assert error.retryable
    hub.damaged.clear()
    fetch(hub, volume)


@pytest.mark.parametrize(
    "changes", [{"uri": "pvc://claim/path"}, {"uri": "hf://a/b/c/d"}, {"base_key": "../out"}, {"project_uid": "../out"}]
)
def test_a_bad_address_or_key_is_a_bad_configuration(hub: Hub, volume: Path, changes: dict[str, Any]) -> None:
    assert failure(hub, volume, **changes).reason is Reason.BAD_CONFIGURATION


def test_a_volume_without_room_is_an_error_before_anything_is_fetched(
    hub: Hub, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Directory, "free_bytes", lambda _: 3)
    error = failure(hub, volume)
    assert error.reason is Reason.VOLUME_FULL
    needed = sum(map(len, WANTED.values()))
    assert f"the base model needs {needed} bytes, but the Project's volume has 3 bytes free" in error.message
    assert "have it enlarged" in error.hint
    assert [request for request in hub.requests if "/resolve/" in request] == []


def test_the_job_takes_the_hub_from_the_environment(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(config().model_dump_json())
    log = tmp_path / "termination-log"
    options = ["--config", str(tmp_path / "job.json"), "--volume", str(tmp_path), "--termination-log", str(log)]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(job_command("fetch", *options), env=environment, timeout=100)
    assert done.returncode == ExitCode.DONE
    record = TerminationRecord.model_validate_json(log.read_bytes())
    assert (record.outcome, record.base_model) == ("succeeded", "hf://lab/tiny-t5")
    assert json.loads((tmp_path / "base" / "tiny-t5-0f1e" / "base.json").read_text())["commit"] == COMMIT


# Other Projects on the claim


class Between(StopFlag):
    """Lets something happen when a fetch looks for the n-th time whether it is to stop."""

    def __init__(self, number: int, happens: Callable[[], None]) -> None:
        super().__init__()
        self._left = number
        self._happens = happens

    def check(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._happens()


@pytest.mark.parametrize("number", range(1, len(WANTED) + 2))
def test_a_model_that_another_project_finishes_meanwhile_is_used_and_neither_replaced_nor_disturbed(
    hub: Hub, volume: Path, number: int
) -> None:
    theirs: list[tuple[BaseRecord, int]] = []
    place = volume / "base" / "tiny-t5-0f1e"

    def other_project() -> None:
        record = fetch(hub, volume, project_uid="uid-b")
        theirs.append((record, place.stat().st_ino))

    stop = Between(number, other_project)
    record = fetch_model(config(), volume, stop=stop, endpoint=hub.url, egress=local_egress())
    assert theirs == [(record, place.stat().st_ino)]
    assert files(place).keys() == {*WANTED, "base.json"}
    assert os.listdir(volume / "base") == [place.name]


@pytest.mark.parametrize("project", ["uid-a", "uid-b"])
def test_a_model_that_another_job_finishes_while_this_one_is_synced_to_the_disk_stays(
    hub: Hub, volume: Path, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    place, inodes = volume / "base" / "tiny-t5-0f1e", list[int]()

    def sync_slowly(_: Path) -> None:
        monkeypatch.undo()
        fetch(hub, volume, project_uid=project)
        inodes.append(place.stat().st_ino)

    monkeypatch.setattr(fetching, "sync_tree", sync_slowly)
    fetch(hub, volume)
    assert inodes == [place.stat().st_ino]
    assert os.listdir(volume / "base") == [place.name]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_whole_model_that_takes_the_place_of_a_damaged_one_after_it_was_looked_at_stays(
    hub: Hub, volume: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    place, inodes = volume / "base" / "tiny-t5-0f1e", list[int]()
    fetch(hub, volume, project_uid="uid-b")
    if damaged:
        (place / "model.safetensors").unlink()
    real, looks = fetching._is_whole, list[None]()

    def look(folder: Directory, record: BaseRecord) -> bool:
        looks.append(None)
        if len(looks) != 2:
            return len(looks) > 2 and real(folder, record)
        if damaged:
            monkeypatch.undo()
            fetch(hub, volume, project_uid="uid-b")
        inodes.append(place.stat().st_ino)
        return False

    monkeypatch.setattr(fetching, "_is_whole", look)
    fetch(hub, volume)
    assert inodes == [place.stat().st_ino]
    assert files(place).keys() == {*WANTED, "base.json"}


@pytest.mark.parametrize(("age", "stays"), [(0, True), (2 * 86400, False)])
def test_what_another_job_has_fetched_in_part_stays_for_a_day(hub: Hub, volume: Path, age: int, stays: bool) -> None:
    part = volume / "base" / ".part-other-0f1e.uid-b"
    part.mkdir(parents=True)
    (part / "model.safetensors").write_bytes(b"half")
    os.utime(part, (part.stat().st_mtime - age,) * 2)
    fetch(hub, volume)
    assert part.exists() is stays


# Where the hub may not be, and where it may not lead


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:80", "https://169.254.169.254", "https://kubernetes.default.svc"]
)
def test_a_hub_is_not_asked_where_nothing_may_be_fetched_from(volume: Path, endpoint: str) -> None:
    with pytest.raises(DataError) as caught:
        fetch_model(config(), volume, stop=StopFlag(), endpoint=endpoint)
    assert caught.value.reason is Reason.SOURCE_REFUSED


def test_a_hub_that_the_environment_names_is_not_asked_at_the_api_server(hub: Hub, tmp_path: Path) -> None:
    """The name passes, and the address of the connection does not."""
    host = hub.url.removeprefix("http://")
    (tmp_path / "job.json").write_text(config(api_server=[host]).model_dump_json())
    log = tmp_path / "termination-log"
    options = ["--config", str(tmp_path / "job.json"), "--volume", str(tmp_path), "--termination-log", str(log)]
    environment = {**os.environ, "HF_ENDPOINT": hub.url.replace("127.0.0.1", "localhost"), "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "chorus_dataset", "fetch", *options], env=environment, timeout=100)
    assert done.returncode == ExitCode.BAD_CONFIGURATION
    assert TerminationRecord.model_validate_json(log.read_bytes()).reason == Reason.SOURCE_REFUSED
    assert hub.requests == []


def test_a_redirect_of_the_hub_leads_nowhere_where_nothing_may_be_fetched_from(
    hub: Hub, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # between its attempts
    hub.elsewhere = "http://169.254.169.254/latest/model.safetensors"
    error = failure(hub, volume)
    assert error.reason is Reason.SOURCE_REFUSED
    assert "hf://lab/tiny-t5 may not be fetched from 169.254.169.254, a link-local address" in error.message


def test_weights_are_fetched_over_connections_that_are_looked_at(hub: Hub, volume: Path) -> None:
    """The hub offers Xet, whose client opens its own connections."""
    hub.xet = True
    fetch(hub, volume)
    assert [request for request in hub.requests if "xet" in request] == []
    assert (volume / "base" / "tiny-t5-0f1e" / "model.safetensors").read_bytes() == WANTED["model.safetensors"]
