"""Training and answering on several GPUs."""
