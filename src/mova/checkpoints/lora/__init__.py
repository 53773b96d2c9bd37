"""LoRA files and adapters."""
