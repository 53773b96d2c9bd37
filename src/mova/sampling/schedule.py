"""Noise levels of a run: which sigmas the sampler visits, for the video and for the audio.

``sigma`` is the share of noise (1 = pure noise); the networks receive ``timestep = 1000 sigma``. The curve
and all its options are those of the official ``scheduler_config.json`` (spec 3.8), so that a file from there
is honoured whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

TRAINING_STEPS = 1000


@dataclass(frozen=True)
class ScheduleConfig:
    """The values of a ``scheduler_config.json``; a missing key has the official code's default, not the
    checkpoints' value.

    Args:
        num_train_timesteps: Length of the training grid and the factor from sigma to timestep.
        shift: Above 1 spends more steps at high noise.
        audio_shift: Shift of the audio; ``None`` is the same as the video's.
        sigma_max: Level of the first step.
        sigma_min: Level at the end of the curve.
        extra_one_step: Whether the last of the ``n + 1`` points of the curve is left out (the final 0 takes
            its place).
        inverse_timesteps: Whether the curve is walked backwards.
        exponential_shift: Whether the curve is ``e^mu / (e^mu + 1/u - 1)`` instead of the rational one.
        exponential_shift_mu: ``mu`` of it.
        shift_terminal: Level to which the end of the curve is stretched.
        reverse_sigmas: Whether each level is taken from 1.
        snap_to_training_grid: Whether each update uses the nearest of the training grid's levels, as the
            official code does.

    Raises:
        ValueError: If a value is out of range.
    """

    num_train_timesteps: int = TRAINING_STEPS
    shift: float = 3.0
    audio_shift: float | None = None
    sigma_max: float = 1.0
    sigma_min: float = 0.003 / 1.002
    extra_one_step: bool = False
    inverse_timesteps: bool = False
    exponential_shift: bool = False
    exponential_shift_mu: float | None = None
    shift_terminal: float | None = None
    reverse_sigmas: bool = False
    snap_to_training_grid: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma_max <= 1.0 or not 0.0 <= self.sigma_min < self.sigma_max:
            raise ValueError(
                f"0 <= sigma_min < sigma_max <= 1 must hold; got sigma_min={self.sigma_min}, sigma_max={self.sigma_max}."
            )
        for name in ("shift", "audio_shift"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive; got {value}.")
        if self.exponential_shift and self.exponential_shift_mu is None:
            raise ValueError("exponential_shift needs exponential_shift_mu.")
        if self.shift_terminal is not None and not 0.0 <= self.shift_terminal < 1.0:
            raise ValueError(f"shift_terminal must be in [0, 1); got {self.shift_terminal}.")
        if self.num_train_timesteps < 1:
            raise ValueError(f"num_train_timesteps must be at least 1; got {self.num_train_timesteps}.")

    @staticmethod
    def from_values(values: dict[str, Any]) -> ScheduleConfig:
        """Of a parsed ``scheduler_config.json``; keys that are not ours have no effect (spec 1)."""
        ours = {item.name for item in fields(ScheduleConfig)}
        return ScheduleConfig(**{name: value for name, value in values.items() if name in ours})


@dataclass(frozen=True)
class Schedule:
    """The levels of one modality over a run of ``n`` steps.

    Args:
        sigmas: ``[n + 1]`` float32 on the CPU: the level before each step and the final one; the updates use
            these.
        timesteps: ``[n + 1]`` float32: input of the network at each, ``1000 sigma`` before any snapping.
    """

    sigmas: Tensor
    timesteps: Tensor = field(repr=False)

    @property
    def num_steps(self) -> int:
        """Steps of the run."""
        return len(self.sigmas) - 1


def shifted_sigmas(
    num_steps: int,
    shift: float,
    *,
    sigma_min: float = 0.0,
    sigma_max: float = 1.0,
    extra_one_step: bool = True,
    denoising_strength: float = 1.0,
    inverse_timesteps: bool = False,
    exponential_shift_mu: float | None = None,
    shift_terminal: float | None = None,
    reverse_sigmas: bool = False,
) -> Tensor:
    """Noise levels for rectified flow, biased towards high noise: ``shift u / (1 + (shift - 1) u)`` over a
    line ``u``.

    The rational shift is that of Esser et al. 2024 (arXiv 2403.03206, section 5.3.2); the other options, and
    the order in which they apply, are spec 3.8.

    Args:
        num_steps: Steps, at least 1.
        shift: 1 keeps the levels evenly spaced; above 1 spends more steps at high noise.
        sigma_min: End of the line.
        sigma_max: Beginning of the line at full strength.
        extra_one_step: Whether the line has ``n + 1`` points of which the last is left out.
        denoising_strength: Share of the way from ``sigma_min`` to ``sigma_max`` at which to begin.
        inverse_timesteps: Whether the line is walked backwards.
        exponential_shift_mu: If given, ``e^mu / (e^mu + 1/u - 1)`` takes the place of the rational shift.
        shift_terminal: If given, the levels are stretched so that the last is this.
        reverse_sigmas: Whether each level is taken from 1.

    Returns:
        ``[num_steps + 1]`` float32 on the CPU: the level before each step, then the final 0 (1 for a curve
        that runs towards noise).

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> shifted_sigmas(2, shift=3.0).tolist()
        [1.0, 0.75, 0.0]
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1; got {num_steps}.")
    if shift <= 0:
        raise ValueError(f"shift must be positive; got {shift}.")
    if not 0.0 < denoising_strength <= 1.0:
        raise ValueError(f"denoising_strength must be in (0, 1]; got {denoising_strength}.")
    start = sigma_min + (sigma_max - sigma_min) * denoising_strength
    points = num_steps + 1 if extra_one_step else num_steps
    line = torch.linspace(start, sigma_min, points, dtype=torch.float32)[:num_steps]
    if inverse_timesteps:
        line = line.flip(0)
    if exponential_shift_mu is None:
        sigmas = shift * line / (1 + (shift - 1) * line)
    else:
        growth = torch.tensor(exponential_shift_mu, dtype=torch.float32).exp()
        sigmas = growth / (growth + 1 / line - 1)
    if shift_terminal is not None:
        rest = 1 - sigmas
        sigmas = 1 - rest / (rest[-1] / (1 - shift_terminal))
    if reverse_sigmas:
        sigmas = 1 - sigmas
    final = 1.0 if inverse_timesteps or reverse_sigmas else 0.0
    # float32 can leave the first level a bit above 1, which no network has seen
    return torch.cat([sigmas.clamp(0.0, 1.0), torch.tensor([final])])


def configured_sigmas(
    config: ScheduleConfig, num_steps: int, *, shift: float | None = None, denoising_strength: float = 1.0
) -> Tensor:
    """``shifted_sigmas`` with every value of a configuration; ``shift=None`` is the configured one."""
    return shifted_sigmas(
        num_steps,
        config.shift if shift is None else shift,
        sigma_min=config.sigma_min,
        sigma_max=config.sigma_max,
        extra_one_step=config.extra_one_step,
        denoising_strength=denoising_strength,
        inverse_timesteps=config.inverse_timesteps,
        exponential_shift_mu=config.exponential_shift_mu if config.exponential_shift else None,
        shift_terminal=config.shift_terminal,
        reverse_sigmas=config.reverse_sigmas,
    )


def snap_to_training_grid(sigmas: Tensor, config: ScheduleConfig) -> Tensor:
    """Each level replaced by the nearest of the grid of training levels at the configured shift, the first on
    ties.

    The official sampler looks its levels up so (spec 3.8); where ``n`` divides 1000 the lookup changes
    nothing beyond 1e-7. The final level is kept.

    Args:
        sigmas: ``[n + 1]`` float32.
        config: Configuration whose grid is meant; a run's own shift does not change the grid.
    """
    grid = configured_sigmas(config, config.num_train_timesteps)[:-1]
    scale = config.num_train_timesteps
    nearest = (scale * grid[None, :] - scale * sigmas[:-1, None]).abs().argmin(dim=1)
    return torch.cat([grid[nearest], sigmas[-1:]])


def schedule(
    config: ScheduleConfig, num_steps: int, *, shift: float | None = None, denoising_strength: float = 1.0
) -> Schedule:
    """The schedule of one modality.

    Args:
        config: The checkpoint's values.
        num_steps: Steps, at least 1.
        shift: Shift in place of the configured one.
        denoising_strength: Share of the noise to begin at.

    Raises:
        ValueError: If an argument is out of range.
    """
    sigmas = configured_sigmas(config, num_steps, shift=shift, denoising_strength=denoising_strength)
    used = snap_to_training_grid(sigmas, config) if config.snap_to_training_grid else sigmas
    return Schedule(sigmas=used, timesteps=config.num_train_timesteps * sigmas)


def schedule_pair(
    config: ScheduleConfig,
    num_steps: int,
    *,
    shift: float | None = None,
    audio_shift: float | None = None,
    denoising_strength: float = 1.0,
) -> tuple[Schedule, Schedule]:
    """The video's schedule and the audio's, each with its own shift.

    Args:
        config: The checkpoint's values.
        num_steps: Steps, at least 1.
        shift: Shift of the video; ``None`` is the configured one.
        audio_shift: Shift of the audio; ``None`` is the configured one, else the video's.
        denoising_strength: Share of the noise to begin at.
    """
    video_shift = config.shift if shift is None else shift
    resolved_audio_shift = next(value for value in (audio_shift, config.audio_shift, video_shift) if value is not None)
    return (
        schedule(config, num_steps, shift=video_shift, denoising_strength=denoising_strength),
        schedule(config, num_steps, shift=resolved_audio_shift, denoising_strength=denoising_strength),
    )


class FlowMatchPairScheduler(SchedulerMixin, ConfigMixin):
    """Rectified flow for video and audio, each at its own levels; arguments as ``ScheduleConfig``."""

    @register_to_config
    def __init__(
        self,
        num_inference_steps: int = 100,
        num_train_timesteps: int = 1000,
        shift: float = 3.0,
        audio_shift: float | None = None,
        sigma_max: float = 1.0,
        sigma_min: float = 0.003 / 1.002,
        extra_one_step: bool = False,
        inverse_timesteps: bool = False,
        exponential_shift: bool = False,
        exponential_shift_mu: float | None = None,
        shift_terminal: float | None = None,
        reverse_sigmas: bool = False,
        snap_to_training_grid: bool = True,
    ) -> None:
        self.schedule_config = ScheduleConfig.from_values(dict(self.config))

    def schedules(
        self, num_steps: int, *, shift: float | None = None, audio_shift: float | None = None
    ) -> tuple[Schedule, Schedule]:
        """The video's schedule and the audio's, see :func:`mova.sampling.schedule.schedule_pair`."""
        return schedule_pair(self.schedule_config, num_steps, shift=shift, audio_shift=audio_shift)
