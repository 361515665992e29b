"""Medical fine-tuning recipes that prove their template, loss mask, split and score on every run."""

__version__ = "0.1.0"
