"""Trackers of losses: W&B, TensorBoard, MLflow, Trackio."""
