"""Training: recipes, stages, one loop."""
