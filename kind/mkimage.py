#!/usr/bin/env python3
"""Write an archive of images from directories and tar files, each a layer; the same input gives the same image ids.

The archive carries the OCI layout, for containerd, and the older listing of the same blobs that docker below 25 loads.
Several images stand in one archive with `--` between them; a layer that several name is in it once.
"""

import argparse
import hashlib
import io
import json
import pathlib
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO

MEDIA = "application/vnd.oci.image."
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Descriptor = dict[str, object]


def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Strip what differs from one build to the next: owner and time."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def put(archive: tarfile.TarFile, name: str, data: IO[bytes]) -> None:
    """Add one regular file."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = data.seek(0, io.SEEK_END), 0o644
    data.seek(0)
    archive.addfile(member, data)


class Archive:
    """The archive as it is written: each blob once."""

    def __init__(self, out: tarfile.TarFile) -> None:
        """Begin an archive without images."""
        self._out = out
        self._blobs: set[str] = set()
        self._layers: dict[pathlib.Path, Descriptor] = {}
        self._manifests: list[Descriptor] = []
        self._listing: list[Descriptor] = []

    def add(
        self,
        layers: Sequence[pathlib.Path],
        *,
        reference: str,
        entrypoint: list[str],
        command: list[str],
        env: list[str],
    ) -> None:
        """Add an image, lowest layer first."""
        described = [self._layer(layer) for layer in layers]
        config = {"Env": [PATH, *env], "Entrypoint": entrypoint, "Cmd": command, "WorkingDir": "/"}
        rootfs = {"type": "layers", "diff_ids": [layer["digest"] for layer in described]}
        image = self._json({"architecture": "amd64", "os": "linux", "config": config, "rootfs": rootfs}, "config.v1")
        media = MEDIA + "manifest.v1+json"
        manifest = self._json(
            {"schemaVersion": 2, "mediaType": media, "config": image, "layers": described}, "manifest.v1"
        )
        tag = reference.rsplit(":", 1)[1]
        names = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag}
        self._manifests.append(manifest | {"annotations": names})
        paths = [_path(layer) for layer in described]
        self._listing.append({"Config": _path(image), "RepoTags": [reference], "Layers": paths})

    def finish(self) -> None:
        """Write what lists the images."""
        index = {"schemaVersion": 2, "manifests": self._manifests}
        put(self._out, "oci-layout", io.BytesIO(b'{"imageLayoutVersion":"1.0.0"}'))
        put(self._out, "index.json", io.BytesIO(json.dumps(index).encode()))
        put(self._out, "manifest.json", io.BytesIO(json.dumps(self._listing).encode()))

    def _layer(self, source: pathlib.Path) -> Descriptor:
        if source not in self._layers:
            if source.is_dir():
                with tempfile.TemporaryFile(dir=source.parent) as data:
                    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as layer:
                        layer.add(source, arcname=".", filter=plain)
                    self._layers[source] = self._blob(data, "layer.v1.tar")
            else:
                with source.open("rb") as data:
                    self._layers[source] = self._blob(data, "layer.v1.tar")
        return self._layers[source]

    def _json(self, content: object, kind: str) -> Descriptor:
        return self._blob(io.BytesIO(json.dumps(content).encode()), kind + "+json")

    def _blob(self, data: IO[bytes], kind: str) -> Descriptor:
        digest, size = hashlib.sha256(), 0
        data.seek(0)
        while block := data.read(1 << 20):
            digest.update(block)
            size += len(block)
        described: Descriptor = {"mediaType": MEDIA + kind, "digest": f"sha256:{digest.hexdigest()}", "size": size}
        if _path(described) not in self._blobs:
            self._blobs.add(_path(described))
            put(self._out, _path(described), data)
        return described


def _path(descriptor: Descriptor) -> str:
    """Return where a descriptor's blob lies in the layout."""
    return "blobs/sha256/" + str(descriptor["digest"]).removeprefix("sha256:")


def images(words: Sequence[str]) -> Iterator[list[str]]:
    """Split a command line at each `--`."""
    image: list[str] = []
    for word in words:
        if word == "--":
            yield image
            image = []
        else:
            image.append(word)
    yield image


def main() -> None:
    """Read the command line and write the archive."""
    image = argparse.ArgumentParser(description=__doc__, add_help=False)
    image.add_argument("--entrypoint", action="append", default=[])
    image.add_argument("--command", action="append", default=[])
    image.add_argument("--env", action="append", default=[])
    first = argparse.ArgumentParser(description=__doc__, parents=[image])
    first.add_argument("out", type=pathlib.Path)
    for parser in (first, image):
        parser.add_argument("reference")
        parser.add_argument("layers", type=pathlib.Path, nargs="+")
    given = [
        (image if number else first).parse_intermixed_args(words) for number, words in enumerate(images(sys.argv[1:]))
    ]
    with tarfile.open(given[0].out, mode="w", format=tarfile.GNU_FORMAT) as out:
        archive = Archive(out)
        for one in given:
            archive.add(
                one.layers, reference=one.reference, entrypoint=one.entrypoint, command=one.command, env=one.env
            )
        archive.finish()


if __name__ == "__main__":
    main()
