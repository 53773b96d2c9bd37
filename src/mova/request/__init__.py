"""What is asked of a model, and what a model can make: no torch, no weights."""
