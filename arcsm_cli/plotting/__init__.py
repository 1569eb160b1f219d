"""Figures: sample grids, densities, curves."""
