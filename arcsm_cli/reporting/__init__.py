"""What files tell of themselves, and a run on one page."""
