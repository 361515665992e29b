"""Medical fine-tuning recipes that prove their template, loss mask, split and score on every run."""

import os

__version__ = "0.1.0"

# Nothing phones home unless the user asks for it: set before any library is imported, and only where nothing is set.
for _name, _value in {
    "DO_NOT_TRACK": "1",
    "DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "WANDB_ERROR_REPORTING": "false",
    # Not telemetry, but it too must be set this early: threads that wait by spinning make a busy machine ten times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
}.items():
    os.environ.setdefault(_name, _value)
