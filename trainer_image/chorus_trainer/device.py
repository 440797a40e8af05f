"""What to compute on, and in which arithmetic."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import torch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """Where and how this run computes."""

    name: str
    """Such as cpu, or cuda (NVIDIA H100 80GB HBM3)."""
    cuda: bool
    precision: Literal["float32", "bfloat16"]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the frozen weights."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


def choose(
    precision: Literal["auto", "float32", "bfloat16"], *, threads: int | None, accelerator: str | None
) -> Device:
    """Take the GPU where torch sees one, else the CPU with `threads` threads (None: torch's own choice).

    `auto` is bfloat16 only where the device computes it natively: elsewhere its products are up to 200 times slower.
    `accelerator` is what the pod asked for; asked for and not seen is logged as a warning.
    """
    cuda = torch.cuda.is_available()
    if accelerator and not cuda:
        logger.warning(
            "the pod asked for %s, but torch sees no GPU: training on the CPU. Look at the node's driver, its device "
            "plugin and the pod's runtimeClassName",
            accelerator,
        )
    if not cuda and threads is not None:
        torch.set_num_threads(threads)
    native = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else _cpu_computes_bfloat16()
    chosen: Literal["float32", "bfloat16"] = "float32"
    if precision == "bfloat16" or (precision == "auto" and native):
        chosen = "bfloat16"
        if not native:
            logger.warning("precision is bfloat16, which this device has to emulate: expect it to be slow")
    name = f"cuda ({torch.cuda.get_device_name()})" if cuda else "cpu"
    logger.info("training on %s in %s with %d CPU threads", name, chosen, torch.get_num_threads())
    return Device(name=name, cuda=cuda, precision=chosen)


def _cpu_computes_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
