"""Denoising: corruptions with a known law, and methods that undo them with a model's scores."""
