"""The pipeline from recipe to run folder, its tasks, check, build and sweep."""
