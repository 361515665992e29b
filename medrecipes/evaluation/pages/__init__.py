"""Pages that a person opens in a browser: one style and one frame for a run's report, a comparison and the list of runs."""
