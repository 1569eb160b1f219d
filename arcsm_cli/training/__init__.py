"""Training: settings, state, the loop, and a run with its files."""
