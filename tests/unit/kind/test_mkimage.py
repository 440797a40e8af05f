"""kind/mkimage.py: archives of images whose layers are there once."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

MKIMAGE = Path(__file__).resolve().parents[3] / "kind" / "mkimage.py"


def make(out: Path, *words: str | Path) -> dict[str, bytes]:
    """Write an archive and return its files."""
    subprocess.run([sys.executable, MKIMAGE, out, *words], check=True, timeout=60)
    with tarfile.open(out) as archive:
        files = {member.name: archive.extractfile(member) for member in archive}
        assert len(files) == len(archive.getnames())
        return {name: file.read() for name, file in files.items() if file}


def images(files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """The configuration of each image by reference, with its layers; docker and containerd are told the same."""
    listed = json.loads(files["manifest.json"])
    indexed = json.loads(files["index.json"])["manifests"]
    found = {}
    for old, new in zip(listed, indexed, strict=True):
        manifest = json.loads(files[blob(new)])
        assert [blob(layer) for layer in manifest["layers"]] == old["Layers"]
        assert blob(manifest["config"]) == old["Config"]
        reference = new["annotations"]["io.containerd.image.name"]
        assert old["RepoTags"] == [reference]
        config = json.loads(files[old["Config"]])
        assert [f"blobs/sha256/{digest.removeprefix('sha256:')}" for digest in config["rootfs"]["diff_ids"]] == old[
            "Layers"
        ]
        found[reference] = config["config"] | {"layers": old["Layers"]}
    return found


def blob(descriptor: dict[str, str]) -> str:
    return "blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    program, extra = tmp_path / "program", tmp_path / "extra"
    for root in (program, extra):
        root.mkdir()
        (root / root.name).write_text(root.name)
    (program / "link").symlink_to("program")
    return program, extra


def test_images_share_a_layer(roots: tuple[Path, Path], tmp_path: Path) -> None:
    program, extra = roots
    words: list[str | Path] = [
        "one:1",
        "--entrypoint=/a",
        program,
        "--",
        "two:1",
        "--entrypoint=/b",
        "--entrypoint=c",
        program,
        extra,
    ]
    files = make(tmp_path / "all.tar", *words)
    made = images(files)
    assert made["one:1"]["Entrypoint"] == ["/a"]
    assert made["two:1"]["Entrypoint"] == ["/b", "c"]
    assert made["one:1"]["layers"] == made["two:1"]["layers"][:1]
    assert len(made["two:1"]["layers"]) == 2
    for name, data in files.items():
        assert not name.startswith("blobs/") or hashlib.sha256(data).hexdigest() == name.rsplit("/", 1)[1]


def test_the_same_directory_gives_the_same_image(roots: tuple[Path, Path], tmp_path: Path) -> None:
    program, _ = roots
    first = make(tmp_path / "first.tar", "--env", "A=1", "one:1", "--command", "serve", program)
    (program / "program").touch()
    assert make(tmp_path / "second.tar", "--env", "A=1", "one:1", "--command", "serve", program) == first
    (image,) = images(first).values()
    assert image["Cmd"] == ["serve"]
    assert "A=1" in image["Env"]


def test_a_tar_file_is_a_layer_as_it_is(roots: tuple[Path, Path], tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as archive:
        archive.add(roots[0], arcname=".")
    files = make(tmp_path / "image.tar", "one:1", layer)
    assert files[images(files)["one:1"]["layers"][0]] == layer.read_bytes()
