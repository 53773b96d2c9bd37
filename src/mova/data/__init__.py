"""Data: rendered shards and latents."""
