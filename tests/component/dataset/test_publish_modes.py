"""Publishing and sweeping what a training has left with modes that keep its owner out."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from chorus_api.reasons import Reason
from chorus_dataset.errors import DataError
from chorus_dataset.untrusted import Directory
from publish_builders import FILES, ME, Volume, uid
from unprivileged import directory_of_a_user, without_rights_of_root

GONE = uid(3)
CLOSED = [
    ("out", 0o555), ("out", 0o000), ("out/tokenizer", 0o555), ("out/tokenizer", 0o300), ("out/tokenizer", 0o000),
    ("out/README.md", 0o000), ("out/SHA256SUMS", 0o200), ("out/tokenizer/spiece.model", 0o000),
    ("training_run.json", 0o000), ("metrics.jsonl", 0o000), (".", 0o555), (".", 0o000),
]  # fmt: skip


@pytest.fixture
def volume() -> Iterator[Volume]:
    with directory_of_a_user() as folder:
        yield Volume(folder / "volume")


@pytest.mark.parametrize(("name", "mode"), CLOSED)
def test_an_artefact_whose_modes_keep_its_owner_out_is_published_and_can_be_read(
    volume: Volume, name: str, mode: int
) -> None:
    (volume.run / name).chmod(mode)
    with without_rights_of_root(volume.root):
        assert volume.publish().promoted
        found = {each: (volume.model / each).read_bytes() for each in FILES}
    assert found == FILES
    assert volume.under_way() == []


@pytest.mark.parametrize("name", ["out", "out/tokenizer", "out/README.md", "metrics.jsonl"])
def test_what_cannot_be_opened_to_its_owner_is_an_error_that_names_it_and_is_not_retried(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As if it belonged to another user."""
    (volume.run / name).chmod(0o000 if name != "out" else 0o555)
    monkeypatch.setattr(Directory, "open_to_owner", lambda *_: None)
    with without_rights_of_root(volume.root), pytest.raises(DataError) as caught:
        volume.publish()
    assert (caught.value.reason, caught.value.retryable) == (Reason.PUBLISH_FAILED, False)
    assert name in caught.value.message
    assert "chmod -R u+rwX $CHORUS_OUT_DIR" in caught.value.hint
    assert volume.under_way() == []


def test_the_mode_of_what_a_link_leads_to_and_of_a_file_with_a_second_name_stays(volume: Volume) -> None:
    victim, shared = volume.root / "victim", volume.out / "shared.json"
    for path in (victim, shared):
        path.write_bytes(b"{}")
        path.chmod(0o400)
    os.link(shared, volume.root / "second")
    (volume.out / "link.json").symlink_to(victim)
    with without_rights_of_root(volume.root), pytest.raises(DataError, match=r"plain file|has 2 names"):
        volume.publish()
    assert [path.stat().st_mode & 0o777 for path in (victim, volume.root / "second")] == [0o400, 0o400]


@pytest.mark.parametrize("mode", [0o555, 0o300, 0o000])
@pytest.mark.parametrize("name", [".", "1-10", "1-10/cache", "1-10/cache/deep/deeper"])
def test_directories_of_a_deleted_run_go_whatever_their_modes(volume: Volume, name: str, mode: int) -> None:
    folder = volume.old_run(GONE, ME)
    (folder / "1-10" / "cache" / "deep" / "deeper").mkdir(parents=True)
    (folder / "1-10" / "cache" / "deep" / "deeper" / "x.bin").write_bytes(b"x")
    with without_rights_of_root(volume.root):
        (folder / name).chmod(mode)
        volume.publish()
        assert not folder.exists()
    assert volume.under_way() == []
