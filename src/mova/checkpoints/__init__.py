"""Models on disk: the folder layout, loading and saving (safetensors only), and the shipped model."""
