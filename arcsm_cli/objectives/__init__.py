"""Training objectives: functions of a model and a noisy batch that return a loss, nothing else."""
