#!/usr/bin/env python3
"""Write a one-layer image archive from a directory or a tar file; the same input gives the same image id.

The archive carries the OCI layout, for containerd, and the older listing of the same blobs that docker below 25 loads.
"""

import argparse
import hashlib
import io
import json
import pathlib
import tarfile
from collections.abc import Callable

MEDIA = "application/vnd.oci.image."
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Blobs = dict[str, bytes]
Descriptor = dict[str, object]


def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Strip what differs from one build to the next: owner and time."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def tar(fill: Callable[[tarfile.TarFile], None]) -> bytes:
    """Return the archive that `fill` writes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        fill(archive)
    return buffer.getvalue()


def put(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add one regular file."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    archive.addfile(member, io.BytesIO(data))


def describe(blobs: Blobs, data: bytes, kind: str) -> Descriptor:
    """Keep a blob and return its descriptor."""
    digest = hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return {"mediaType": MEDIA + kind, "digest": f"sha256:{digest}", "size": len(data)}


def blob_path(descriptor: Descriptor) -> str:
    """Return where a descriptor's blob lies in the layout."""
    return "blobs/sha256/" + str(descriptor["digest"]).removeprefix("sha256:")


def archive_of(
    layer_data: bytes, *, reference: str, entrypoint: list[str], command: list[str], env: list[str]
) -> bytes:
    """Return the image archive of one layer under one name."""
    blobs: Blobs = {}
    layer = describe(blobs, layer_data, "layer.v1.tar")
    config = {"Env": [PATH, *env], "Entrypoint": entrypoint, "Cmd": command, "WorkingDir": "/"}
    image = {"architecture": "amd64", "os": "linux", "config": config}
    image["rootfs"] = {"type": "layers", "diff_ids": [layer["digest"]]}
    described = describe(blobs, json.dumps(image).encode(), "config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": MEDIA + "manifest.v1+json", "config": described, "layers": [layer]}
    listed = describe(blobs, json.dumps(manifest).encode(), "manifest.v1+json")
    tag = reference.rsplit(":", 1)[1]
    names = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag}
    index = {"schemaVersion": 2, "manifests": [listed | {"annotations": names}]}
    listing = [{"Config": blob_path(described), "RepoTags": [reference], "Layers": [blob_path(layer)]}]

    def contents(archive: tarfile.TarFile) -> None:
        put(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        put(archive, "index.json", json.dumps(index).encode())
        put(archive, "manifest.json", json.dumps(listing).encode())
        for digest, data in blobs.items():
            put(archive, f"blobs/sha256/{digest}", data)

    return tar(contents)


def main() -> None:
    """Read the command line and write the archive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entrypoint", action="append", default=[])
    parser.add_argument("--command", action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("reference")
    parser.add_argument("root", type=pathlib.Path)
    given = parser.parse_args()
    if given.root.is_dir():
        layer = tar(lambda archive: archive.add(given.root, arcname=".", filter=plain))
    else:
        layer = given.root.read_bytes()
    image = archive_of(
        layer, reference=given.reference, entrypoint=given.entrypoint, command=given.command, env=given.env
    )
    given.out.write_bytes(image)


if __name__ == "__main__":
    main()
