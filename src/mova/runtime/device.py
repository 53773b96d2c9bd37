"""Where and in which number format a model runs, and why: every choice comes with its reason as text."""

from __future__ import annotations

import os

import torch

from mova.errors import RequestError
from mova.runtime.options import TORCHAO, RuntimeOptions


def choose_device(asked: str | torch.device) -> tuple[torch.device, str]:
    """The device to compute on, and why.

    Args:
        asked: ``"auto"`` takes the accelerator that torch sees, else the CPU.

    Raises:
        RequestError: If the device asked for is not there.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if str(asked) == "auto":
        if accelerator is None:
            return torch.device("cpu"), "torch sees no accelerator"
        return torch.device(accelerator.type), f"the accelerator of this machine, {device_name(accelerator)}"
    available = ["cpu"]
    if accelerator is not None:
        available += [f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count())]
    if str(asked) in available or (accelerator is not None and str(asked) == accelerator.type):
        return torch.device(asked), "asked for"
    raise RequestError(
        f"there is no device {str(asked)!r}; this machine has {', '.join(available)}.",
        "Leave device to 'auto', or install a torch that is built for your accelerator.",
        field="device",
    )


def choose_dtype(options: RuntimeOptions, device: torch.device, *, num_parameters: int) -> tuple[torch.dtype, str]:
    """The number format of the joint network and the text encoder, and why.

    Args:
        options: ``dtype`` and ``quantisation`` have a say.
        device: Device of the run.
        num_parameters: Parameters of the whole model; one that would fill the memory in float32 gets bfloat16.
    """
    if options.dtype_name != "auto":
        return getattr(torch, options.dtype_name), "asked for"
    if options.quantisation in TORCHAO:
        return torch.bfloat16, f"{options.quantisation} weights are multiplied in it"
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return torch.bfloat16, f"{device_name(device)} computes in it, and the official weights are stored in it"
        return torch.float32, f"{device_name(device)} has no bfloat16 units, and the text encoder overflows in float16"
    if device.type != "cpu":
        return torch.bfloat16, "the official weights are stored in it"
    needed, memory = 4 * num_parameters, host_memory()
    if needed > memory // 2:
        return torch.bfloat16, f"float32 would take {needed / 1e9:.0f} GB of this machine's {memory / 1e9:.0f} GB"
    return torch.float32, "a CPU gives the same clip everywhere in it"


def device_name(device: torch.device) -> str:
    """A device as people call it, with its memory where torch tells it."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name} ({properties.total_memory / 1e9:.0f} GB)"
    return device.type


def host_memory() -> int:
    """Bytes of this machine's memory; a petabyte where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on every system
        return 10**15
