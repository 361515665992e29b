"""The run folder on disk: state, loss log, checkpoints, plots, environment."""
