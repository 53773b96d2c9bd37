"""The scheduler as a component of a checkpoint: the values of ``scheduler_config.json``, nothing of a run."""

from __future__ import annotations

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from mova.sampling.schedule import Schedule, ScheduleConfig, schedule_pair


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
