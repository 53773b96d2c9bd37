"""What a user can choose about how a model runs: names only, checked as soon as they are given.

Nothing here changes what the model computes but for ``dtype``, ``quantisation``, tiling, and the approximate
attention backends. Importing this file does not import torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from mova.errors import RequestError

if TYPE_CHECKING:
    import torch

Offload = Literal["none", "component", "block"]
Quantisation = Literal["none", "fp8", "fp8_scaled", "int8"]
SecondExpert = Literal["resident", "prefetch", "on_demand"]
DTYPES = ("float32", "bfloat16", "float16")
MAX_THREADS = 1024
TORCHAO: tuple[Quantisation, ...] = ("fp8_scaled", "int8")


@dataclass(frozen=True)
class RuntimeOptions:
    """How a model runs.

    Attributes:
        device: ``"auto"`` (the accelerator if there is one), or a name such as ``"cuda:1"`` or ``"cpu"``.
        dtype: ``"auto"``, or ``"float32"``, ``"bfloat16"``, ``"float16"``: of the joint network and the text
            encoder; the codecs are float32.
        offload: What waits in host memory while it does not work: ``"none"``; ``"component"``, whole parts of the
            model (most of the speed); ``"block"``, every block of the joint network (least memory).
        quantisation: Weight format of the video tower's blocks: ``"none"``; ``"fp8"`` (stored as float8 without
            scales, needs no package); ``"fp8_scaled"`` and ``"int8"`` (scales per row, need torchao). Audio, bridge,
            norms, embeddings and heads stay in ``dtype``.
        attention_backend: ``"auto"`` (the fastest exact one that works here), ``"sdpa"``, ``"flash"``, ``"flex"``,
            ``"sage"``, or a name that diffusers knows.
        vae_tiling: Whether the video codec works on tiles of the picture: less memory, seams possible.
        vae_slicing: Whether it takes the clips of a batch one by one: less memory, the same result.
        threads: Threads that compute on a CPU; as many as torch would take if None (``OMP_NUM_THREADS``, else the cores).
        same_for_any_threads: Whether a clip must be the same to the last bit on machines with any number of cores: on a CPU, in
            float32, with a model of at most half a billion parameters. Two threads compute at most then, unless ``threads`` is
            more, which is recorded in the clip and used to replay it.
        second_expert: Time at which the expert for low noise is read: ``"resident"``, with everything else; ``"prefetch"``,
            in the background while the first works; ``"on_demand"``, when it is needed.
        drop_first_expert: Whether an expert leaves memory when the other takes over. It is read again when a run
            needs it.

    Raises:
        RequestError: If a value is not one of these.
    """

    device: str | torch.device = "auto"
    dtype: str | torch.dtype = "auto"
    offload: Offload = "none"
    quantisation: Quantisation = "none"
    attention_backend: str = "auto"
    vae_tiling: bool = False
    vae_slicing: bool = False
    threads: int | None = None
    same_for_any_threads: bool = True
    second_expert: SecondExpert = "prefetch"
    drop_first_expert: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z]+(:\d+)?", str(self.device)):
            raise RequestError(f"device must be auto, cpu or such as cuda:0; got {self.device!r}.", field="device")
        for field, value, allowed in (
            ("dtype", self.dtype_name, ("auto", *DTYPES)),
            ("offload", self.offload, get_args(Offload)),
            ("quantisation", self.quantisation, get_args(Quantisation)),
            ("second_expert", self.second_expert, get_args(SecondExpert)),
        ):
            if value not in allowed:
                raise RequestError(f"{field} must be one of {', '.join(allowed)}; got {value!r}.", field=field)
        if not isinstance(self.attention_backend, str):
            raise RequestError(f"attention_backend must be a name; got {self.attention_backend!r}.", field="attention_backend")
        threads, is_number = self.threads, isinstance(self.threads, int) and not isinstance(self.threads, bool)
        if threads is not None and not (is_number and 1 <= threads <= MAX_THREADS):
            raise RequestError(f"threads must be from 1 to {MAX_THREADS}; got {threads!r}.", field="threads")
        for name in ("vae_tiling", "vae_slicing", "same_for_any_threads", "drop_first_expert"):
            if not isinstance(getattr(self, name), bool):
                raise RequestError(f"{name} must be true or false; got {getattr(self, name)!r}.", field=name)
        if self.drop_first_expert and self.second_expert == "resident":
            raise RequestError(
                "drop_first_expert keeps one expert in memory; second_expert='resident' keeps both.",
                "Use second_expert='prefetch' or 'on_demand'.",
                field="drop_first_expert",
            )
        if self.quantisation in TORCHAO and self.dtype_name not in ("auto", "bfloat16"):
            raise RequestError(
                f"quantisation={self.quantisation!r} works with bfloat16; got dtype {self.dtype_name}.",
                "Leave dtype to 'auto', or use quantisation='fp8'.",
                field="dtype",
            )

    @property
    def dtype_name(self) -> str:
        """``dtype`` as a name."""
        return str(self.dtype).removeprefix("torch.")
