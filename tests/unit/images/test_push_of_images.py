"""`kind/push.py`: an image of our own engine becomes layers of a registry, and none is packed twice."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import importlib.util
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from urllib.parse import parse_qs, urlsplit

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "kind" / "push.py"
LARGE = bytes(range(256)) * 12_000


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kind_push", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


push = load()


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Engine:
    """A data directory as docker's overlay2 store lays it out."""

    root: Path
    archives: dict[str, bytes] = field(default_factory=dict)

    def layer(self, files: dict[str, bytes], *, parent: str = "") -> str:
        """Keep one layer above `parent`, a chain of layers, and return the chain."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        data = packed.getvalue()
        diff = sha256(data)
        chain = sha256(f"{parent} {diff}".encode()) if parent else diff
        meta = self.root / "image/overlay2/layerdb/sha256" / chain.removeprefix("sha256:")
        meta.mkdir(parents=True)
        place = self.root / "overlay2" / f"of-{meta.name[:8]}" / "diff"
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        (meta / "cache-id").write_text(place.parent.name)
        (meta / "size").write_text(str(len(data)))
        (meta / "tar-split.json.gz").write_bytes(gzip.compress(b"\n".join(self._split(data))))
        self.archives[diff] = data
        return chain

    @staticmethod
    def _split(data: bytes) -> Iterator[bytes]:
        """What tar-split keeps of an archive: the bytes between the files, and which file stands where."""
        at = 0
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                between = base64.b64encode(data[at : member.offset_data]).decode()
                yield json.dumps({"type": 2, "payload": between}).encode()
                raw = {"name_raw": base64.b64encode(member.name.encode()).decode()} if not member.name.isascii() else {}
                yield json.dumps({"type": 1, "size": member.size, **(raw or {"name": member.name})}).encode()
                at = member.offset_data + member.size
        yield json.dumps({"type": 2, "payload": base64.b64encode(data[at:]).decode()}).encode()

    def image(self, *diffs: str) -> bytes:
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": diffs}}).encode()
        place = self.root / "image/overlay2/imagedb/content/sha256"
        place.mkdir(parents=True, exist_ok=True)
        (place / hashlib.sha256(config).hexdigest()).write_bytes(config)
        return config


class Registry(http.server.ThreadingHTTPServer):
    """As much of a registry as a push asks for; it refuses a blob whose digest is wrong."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[str, dict[str, object]] = {}
        self.uploads: dict[str, bytes] = {}

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Registry

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, status: int, where: str = "") -> None:
        self.send_response(status)
        if where:
            self.send_header("Location", f"http://{self.server.host}{where}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        repository = self.path.split("/")[2]
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        known = self.server.blobs.get((asked.get("from", ""), asked.get("mount", "")))
        if known is not None:
            self.server.blobs[repository, asked["mount"]] = known
            self.answer(201)
        else:
            self.answer(202, f"/v2/{repository}/blobs/uploads/{len(self.server.uploads)}-{id(self)}?state=begun")

    def do_PATCH(self) -> None:
        data = b""
        while size := int(self.rfile.readline() or "0", 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        self.server.uploads[urlsplit(self.path).path] = data
        self.answer(202, urlsplit(self.path).path + "?state=all")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = urlsplit(self.path)
        if "/manifests/" in parts.path:
            self.server.manifests[parts.path] = json.loads(body)
            self.answer(201)
            return
        digest, data = parse_qs(parts.query)["digest"][0], self.server.uploads.pop(parts.path)
        if digest != sha256(data):
            self.answer(400)
            return
        self.server.blobs[parts.path.split("/")[2], digest] = data
        self.answer(201)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine on a machine whose zstd lets the bytes through, so that a test can read them."""
    program = tmp_path / "bin" / "zstd"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec cat\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return Engine(tmp_path / "data")


def pushed(engine: Engine, registry: Registry, config: bytes, *, name: str = "chorus-x", tag: str = "1") -> int:
    to = push.Push(push.Registry(registry.host, name), engine.root / "memory")
    return int(to.image(config, push.Store(engine.root).layers(config), tag))


def test_an_image_arrives_as_the_engine_holds_it(engine: Engine, registry: Registry) -> None:
    low = engine.layer({"etc/a": b"one", "etc/empty": b"", "etc/größe": b"three" * 300})
    engine.layer({"lib/large": LARGE}, parent=low)
    diffs = list(engine.archives)
    config = engine.image(*diffs)

    assert pushed(engine, registry, config) == 2

    manifest = registry.manifests["/v2/chorus-x/manifests/1"]
    assert manifest["config"] == {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": sha256(config),
        "size": len(config),
    }
    assert manifest["layers"] == [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": diff, "size": len(engine.archives[diff])}
        for diff in diffs
    ]
    assert registry.blobs == {("chorus-x", diff): engine.archives[diff] for diff in diffs} | {
        ("chorus-x", sha256(config)): config
    }


def test_a_layer_that_stands_twice_is_listed_twice_and_packed_once(engine: Engine, registry: Registry) -> None:
    low = engine.layer({"a": b"1"})
    engine.layer({"a": b"1"}, parent=low)
    (diff,) = engine.archives

    assert pushed(engine, registry, engine.image(diff, diff)) == 1
    layers = registry.manifests["/v2/chorus-x/manifests/1"]["layers"]
    assert isinstance(layers, list)
    assert [layer["digest"] for layer in layers] == [diff, diff]


def test_only_what_changed_is_packed_again(engine: Engine, registry: Registry) -> None:
    low = engine.layer({"lib/large": LARGE})
    first, second = engine.layer({"app": b"1"}, parent=low), engine.layer({"app": b"2"}, parent=low)
    assert first != second
    base, one, two = engine.archives

    assert pushed(engine, registry, engine.image(base, one), tag="1") == 2
    assert pushed(engine, registry, engine.image(base, one), tag="1") == 0
    assert pushed(engine, registry, engine.image(base, two), tag="2") == 1


def test_images_share_the_layers_that_they_have_in_common(engine: Engine, registry: Registry) -> None:
    engine.layer({"lib/large": LARGE})
    config = engine.image(*engine.archives)

    assert pushed(engine, registry, config, name="chorus-x") == 1
    assert pushed(engine, registry, config, name="chorus-y") == 0
    (diff,) = engine.archives
    assert registry.blobs["chorus-y", diff] == engine.archives[diff]


def test_a_registry_that_lost_its_data_is_filled_again(engine: Engine, registry: Registry) -> None:
    engine.layer({"a": b"1"})
    config = engine.image(*engine.archives)
    assert pushed(engine, registry, config) == 1
    registry.blobs.clear()

    assert pushed(engine, registry, config) == 1
    assert registry.blobs["chorus-x", next(iter(engine.archives))]


def test_a_layer_whose_files_changed_in_the_engine_is_not_pushed(engine: Engine, registry: Registry) -> None:
    engine.layer({"lib/large": LARGE})
    config = engine.image(*engine.archives)
    (file,) = engine.root.glob("overlay2/*/diff/lib/large")
    file.write_bytes(LARGE[::-1])

    with pytest.raises(ValueError, match="build it again"):
        pushed(engine, registry, config)
    assert registry.manifests == {}
    assert registry.blobs == {}


def test_a_packer_that_fails_ends_the_push(engine: Engine, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "bin" / "zstd").write_text("#!/bin/sh\ncat\nexit 3\n")
    engine.layer({"a": b"1"})

    with pytest.raises(RuntimeError, match="status 3"):
        pushed(engine, registry, engine.image(*engine.archives))
    assert registry.manifests == {}


def test_a_registry_that_refuses_is_quoted(engine: Engine, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "do_PATCH", lambda self: self.answer(507))
    engine.layer({"lib/large": LARGE})

    with pytest.raises((RuntimeError, ConnectionError)):
        pushed(engine, registry, engine.image(*engine.archives))
    assert registry.manifests == {}
