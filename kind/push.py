#!/usr/bin/env python3
"""Push an image of our own engine to the local registry: zstd layers, several at once, none that the registry has.

The engine's own `push` packs with gzip on one core for each layer. This reads the layers where the engine keeps them
(docker's overlay2 store: the files of a layer, and in tar-split.json.gz what stands between them in its archive),
checks each against the digest that the image names, and packs it on its way to the registry. Needs the program zstd.
"""

import argparse
import base64
import contextlib
import gzip
import hashlib
import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

MEDIA = "application/vnd.oci.image."
CHUNK = 1 << 20
SECONDS = 300

Descriptor = dict[str, object]


@dataclass(frozen=True)
class Layer:
    """One layer of the engine: the digest of its archive, and where its parts lie."""

    diff: str
    files: pathlib.Path
    split: pathlib.Path

    def archive(self) -> Iterator[bytes]:
        """Yield the layer's archive as the engine first saw it. Raises ValueError when the engine's files differ."""
        whole = hashlib.sha256()
        for part in self._parts():
            whole.update(part)
            yield part
        if f"sha256:{whole.hexdigest()}" != self.diff:
            raise ValueError(f"{self.files} does not hold {self.diff}: docker image rm the image, and build it again")

    def _parts(self) -> Iterator[bytes]:
        segment, file = 2, 1
        with gzip.open(self.split) as entries:
            for entry in map(json.loads, entries):
                if entry["type"] == segment:
                    yield base64.b64decode(entry["payload"])
                elif entry["type"] == file and entry.get("size"):
                    raw = entry.get("name_raw")
                    name = base64.b64decode(raw) if raw else entry["name"].encode()
                    with open(os.path.join(os.fsencode(self.files), name), "rb") as opened:
                        while part := opened.read(CHUNK):
                            yield part


@dataclass(frozen=True)
class Store:
    """The engine's data directory."""

    root: pathlib.Path

    def config(self, image: str) -> bytes:
        """Return an image's configuration, whose digest is its id. Raises FileNotFoundError."""
        return (self.root / "image/overlay2/imagedb/content/sha256" / image).read_bytes()

    def layers(self, config: bytes) -> list[Layer]:
        """Return the layers that a configuration names, the lowest first."""
        found, chain = [], ""
        for diff in json.loads(config)["rootfs"]["diff_ids"]:
            chain = f"sha256:{hashlib.sha256(f'{chain} {diff}'.encode()).hexdigest()}" if chain else diff
            meta = self.root / "image/overlay2/layerdb/sha256" / chain.removeprefix("sha256:")
            files = self.root / "overlay2" / (meta / "cache-id").read_text() / "diff"
            found.append(Layer(diff, files, meta / "tar-split.json.gz"))
        return found


def packed(layer: Layer) -> Generator[bytes]:
    """Yield a layer's archive in zstd."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        subprocess.Popen(["zstd", "-q", "-1", "-c"], **pipes) as process,  # noqa: S607
        ThreadPoolExecutor(1) as pool,
    ):
        source, result = process.stdin, process.stdout
        if source is None or result is None:
            raise RuntimeError("zstd was started without pipes")

        def feed() -> None:
            with source:
                for part in layer.archive():
                    source.write(part)

        fed = pool.submit(feed)
        try:
            while part := result.read(CHUNK):
                yield part
            fed.result()
        except BaseException:
            process.kill()  # else the feeder would wait for ever for a reader that gave up
            raise
        if process.wait() != 0:
            raise RuntimeError(f"zstd failed with status {process.returncode}")


class Registry:
    """The part of the distribution protocol that a push needs, for one repository."""

    def __init__(self, host: str, repository: str) -> None:
        self.host, self.repository = host, repository

    def _ask(self, method: str, target: str, body: bytes | Iterator[bytes] = b"", **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.host, timeout=SECONDS)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, target, body, sent, encode_chunked=not isinstance(body, bytes))
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= http.HTTPStatus.BAD_REQUEST:
                raise RuntimeError(f"{method} {target}: {answer.status} {text.decode(errors='replace')[:300]}")
            where = urllib.parse.urlsplit(answer.headers.get("Location", ""))
            return answer.status, urllib.parse.urlunsplit(where._replace(scheme="", netloc=""))
        finally:
            connection.close()

    def begin(self, *, digest: str = "", of: str = "") -> str:
        """Begin an upload and return its place; empty when the registry has blob `digest` in the repository `of`."""
        query = urllib.parse.urlencode({"mount": digest, "from": of}) if digest else ""
        status, place = self._ask("POST", f"/v2/{self.repository}/blobs/uploads/?{query}")
        return "" if status == http.HTTPStatus.CREATED else place

    def end(self, place: str, digest: str) -> None:
        """End an upload whose bytes are all there."""
        joint = "&" if "?" in place else "?"
        self._ask("PUT", f"{place}{joint}{urllib.parse.urlencode({'digest': digest})}")

    def stream(self, place: str, parts: Iterator[bytes]) -> tuple[str, int]:
        """Upload what comes, and return its digest and size."""
        whole, size = hashlib.sha256(), 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for part in parts:
                whole.update(part)
                size += len(part)
                yield part

        headers = {"Transfer_Encoding": "chunked", "Content_Type": "application/octet-stream"}
        _, place = self._ask("PATCH", place, counted(), **headers)
        digest = f"sha256:{whole.hexdigest()}"
        self.end(place, digest)
        return digest, size

    def manifest(self, tag: str, data: bytes) -> None:
        """Put the manifest that a tag names."""
        self._ask("PUT", f"/v2/{self.repository}/manifests/{tag}", data, Content_Type=MEDIA + "manifest.v1+json")


@dataclass(frozen=True)
class Push:
    """One push, with the directory that remembers what each layer became: digest, size, repository."""

    registry: Registry
    memory: pathlib.Path

    def layer(self, layer: Layer) -> tuple[Descriptor, bool]:
        """Return the descriptor of a layer that the registry now has, and whether it had to be packed."""
        known = self.memory / layer.diff.removeprefix("sha256:")
        digest, size, of = known.read_text().split() if known.exists() else ("", "0", "")
        place = self.registry.begin(digest=digest, of=of)
        if place:
            with contextlib.closing(packed(layer)) as parts:
                digest, length = self.registry.stream(place, parts)
            size = str(length)
            made = known.with_suffix(f".{os.getpid()}")
            made.write_text(f"{digest} {size} {self.registry.repository}\n")
            made.replace(known)
        return {"mediaType": MEDIA + "layer.v1.tar+zstd", "digest": digest, "size": int(size)}, bool(place)

    def image(self, config: bytes, layers: list[Layer], tag: str) -> int:
        """Push an image, the largest layers first and one for each core at once; return how many had to be packed."""
        self.memory.mkdir(parents=True, exist_ok=True)
        by_size = sorted({layer.diff: layer for layer in layers}.values(), key=weight, reverse=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            done = {layer.diff: pool.submit(self.layer, layer) for layer in by_size}
            try:
                results = {diff: future.result() for diff, future in done.items()}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        digest, _ = self.registry.stream(self.registry.begin(), iter([config]))
        described = {"mediaType": MEDIA + "config.v1+json", "digest": digest, "size": len(config)}
        manifest = {"schemaVersion": 2, "mediaType": MEDIA + "manifest.v1+json", "config": described}
        manifest["layers"] = [results[layer.diff][0] for layer in layers]
        self.registry.manifest(tag, json.dumps(manifest).encode())
        return sum(new for _, new in results.values())


def weight(layer: Layer) -> int:
    """Return how long a layer takes, in the bytes that the engine counted."""
    return int((layer.split.parent / "size").read_text())


def main() -> None:
    """Read the command line and push."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="the engine's data directory")
    parser.add_argument("--memory", type=pathlib.Path, required=True, help="a directory of this program's own")
    parser.add_argument("image", help="the image's id")
    parser.add_argument("reference", help="HOST:PORT/REPOSITORY:TAG")
    given = parser.parse_args()
    named = re.fullmatch(r"([^/]+)/(.+):([^:/]+)", given.reference)
    if not named:
        parser.error(f"{given.reference} is not HOST:PORT/REPOSITORY:TAG")
    began = time.monotonic()
    store, push = Store(given.data), Push(Registry(named[1], named[2]), given.memory)
    config = store.config(given.image.removeprefix("sha256:"))
    layers = store.layers(config)
    new = push.image(config, layers, named[3])
    print(f"{new} of {len(layers)} layers packed in {time.monotonic() - began:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
