"""How a model runs, not what it computes: costs, memory, devices."""
