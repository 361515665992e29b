"""Answers collected, reports written, finished runs opened again, compared, benchmarked."""
