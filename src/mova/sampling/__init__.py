"""From noise to latents: schedule, noise, task, guidance, solver, and the one loop that joins them."""
