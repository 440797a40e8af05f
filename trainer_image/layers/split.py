"""Split the trainer's lock into one lock for each layer of the image: `split.py LOCK DIRECTORY`.

The layers are of similar size, so that they are packed, pushed, pulled and unpacked side by side, and stand in the
order in which they change: torch wants its CUDA libraries in these very versions, while peft moves alone.

With TORCH_INDEX and TORCH_SHA256 in the environment, torch is that index's build for CPUs (the index is PyTorch's CPU
wheel index, or a mirror of it): in the lock's version, with that digest or one of those, without CUDA and triton.
"""

import os
import pathlib
import re
import sys
from collections.abc import Mapping

CUDA = ("cuda-1", "cuda-2", "cuda-3", "cuda-4")
PARTS = (*CUDA, "triton", "torch", "libraries", "huggingface")
CUBLAS = ("nvidia-cublas", "nvidia-curand")
CUDNN = ("nvidia-cudnn-cu13", "nvidia-nvjitlink")
CUFFT = ("nvidia-cufft", "nvidia-nccl-cu13", "nvidia-cuda-nvrtc")
HUGGINGFACE = ("accelerate", "hf-xet", "huggingface-hub", "peft", "safetensors", "tokenizers", "transformers")
NAMED = dict.fromkeys(CUBLAS, "cuda-1") | dict.fromkeys(CUDNN, "cuda-2") | dict.fromkeys(CUFFT, "cuda-3")
NAMED |= dict.fromkeys(HUGGINGFACE, "huggingface") | {"triton": "triton", "torch": "torch"}


def part_of(name: str) -> str:
    """Return the part that a package belongs to."""
    return NAMED.get(name) or ("cuda-4" if name.startswith(("nvidia-", "cuda-")) else "libraries")


def other_torch(entry: str, index: str, digests: str) -> str:
    """Return the lock of torch from another index. Raises SystemExit where it would not be bound to known bytes."""
    given = [digest.strip().lower().removeprefix("sha256:") for digest in digests.split(",") if digest.strip()]
    if not given or not all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in given):
        raise SystemExit(
            "TORCH_INDEX is set, so TORCH_SHA256 must name the SHA-256 digest of the wheel to be taken from there, or "
            "several, separated by commas: see docs/install.md"
        )
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in given)
    return f"--index-url {index}\n{entry.split()[0]}+cpu {hashes}\n"  # uv binds digests to the version with its label


def split(lock: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the lock of each part; an empty one has nothing to install."""
    parts = dict.fromkeys(PARTS, "")
    index = environment.get("TORCH_INDEX", "")
    for entry in re.findall(r"^[A-Za-z0-9].*(?:\n .*)*\n", lock, re.MULTILINE):
        part = part_of(re.split(r"[= ]", entry)[0])
        if index and part == "torch":
            parts[part] += other_torch(entry, index, environment.get("TORCH_SHA256", ""))
        elif not index or part not in (*CUDA, "triton"):
            parts[part] += entry
    return parts


def main() -> None:
    """Read a lock and write those of its parts."""
    lock, directory = map(pathlib.Path, sys.argv[1:])
    directory.mkdir(parents=True)
    for part, text in split(lock.read_text(encoding="utf-8"), os.environ).items():
        (directory / f"{part}.lock").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
