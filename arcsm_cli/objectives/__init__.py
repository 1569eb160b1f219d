"""Training objectives: functions of a model, a batch and random numbers, to a loss."""
