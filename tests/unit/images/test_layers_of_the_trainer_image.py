"""`trainer_image/layers`: the lock becomes one lock for each layer of the image, and nothing gets past its digests."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from locks import read_lock

REPOSITORY = Path(__file__).resolve().parents[3]
LOCK = REPOSITORY / "requirements" / "trainer.lock"
DOCKERFILE = (REPOSITORY / "trainer_image" / "Dockerfile").read_text(encoding="utf-8")
DIGEST = "ab" * 32
INDEX = "https://index.example/cpu"


def split(directory: Path, **environment: str) -> dict[str, Path]:
    command = [sys.executable, str(REPOSITORY / "trainer_image/layers/split.py"), str(LOCK), str(directory)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return {file.stem: file for file in directory.iterdir()}


def test_the_parts_together_are_the_lock(tmp_path: Path) -> None:
    parts = split(tmp_path / "locks")
    lines = Counter(line for file in parts.values() for line in file.read_text(encoding="utf-8").splitlines())
    assert lines == Counter(LOCK.read_text(encoding="utf-8").splitlines())
    assert all(read_lock(file) for file in parts.values()), "a layer has no package: see NAMED in split.py"


def test_each_part_is_one_layer_of_the_dockerfile(tmp_path: Path) -> None:
    copied = re.findall(r"^COPY --from=locks /opt/locks/(\S+)\.lock /opt/build/$", DOCKERFILE, re.MULTILINE)
    installed = re.findall(r"/opt/build/install (\S+)$", DOCKERFILE, re.MULTILINE)
    assert copied == installed
    assert sorted(copied) == sorted(split(tmp_path / "locks"))


def test_a_layer_stands_above_what_changes_less_often(tmp_path: Path) -> None:
    order = re.findall(r"/opt/build/install (\S+)$", DOCKERFILE, re.MULTILINE)
    parts = {name: read_lock(file).keys() for name, file in split(tmp_path / "locks").items()}
    layer = {package: order.index(part) for part, packages in parts.items() for package in packages}
    assert layer["nvidia-cublas"] < layer["torch"] < layer["numpy"] < layer["peft"]


def test_a_change_of_peft_leaves_every_other_layer_as_it_is(tmp_path: Path) -> None:
    before = {name: file.read_bytes() for name, file in split(tmp_path / "before").items()}
    other = tmp_path / "trainer.lock"
    other.write_text(re.sub(r"^peft==\S+", "peft==99.0", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE))
    program = str(REPOSITORY / "trainer_image/layers/split.py")
    subprocess.run([sys.executable, program, str(other), str(tmp_path / "after")], env={}, timeout=60, check=True)
    after = {file.stem: file.read_bytes() for file in (tmp_path / "after").iterdir()}
    assert [name for name in before if before[name] != after[name]] == ["huggingface"]


@pytest.mark.parametrize("digests", [DIGEST, f"sha256:{DIGEST}", f"{DIGEST.upper()}, {'cd' * 32}"])
def test_torch_of_another_index_is_the_locks_version_with_the_digest_given(tmp_path: Path, digests: str) -> None:
    parts = split(tmp_path / "locks", TORCH_INDEX=INDEX, TORCH_SHA256=digests)
    (version,) = read_lock(LOCK)["torch"]
    others = " --hash=sha256:" + "cd" * 32 if "," in digests else ""
    written = parts["torch"].read_text(encoding="utf-8")
    assert written == f"--index-url {INDEX}\ntorch=={version}+cpu --hash=sha256:{DIGEST}{others}\n"


def test_torch_of_another_index_brings_no_cuda_and_no_triton(tmp_path: Path) -> None:
    ordinary = {name: file.read_bytes() for name, file in split(tmp_path / "with").items()}
    parts = {
        name: file.read_bytes()
        for name, file in split(tmp_path / "without", TORCH_INDEX=INDEX, TORCH_SHA256=DIGEST).items()
    }
    assert {name for name, text in parts.items() if not text} == {"cuda-1", "cuda-2", "cuda-3", "cuda-4", "triton"}
    assert all(parts[name] == ordinary[name] for name in ("libraries", "huggingface"))


@pytest.mark.parametrize("digests", ["", ",", "abc", f"{DIGEST},latest"])
def test_torch_of_another_index_is_refused_without_a_digest(tmp_path: Path, digests: str) -> None:
    with pytest.raises(RuntimeError, match=r"TORCH_SHA256 must name .*docs/install\.md"):
        split(tmp_path / "locks", TORCH_INDEX=INDEX, TORCH_SHA256=digests)
