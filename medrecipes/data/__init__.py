"""Source files to a split by group: every drop counted, every leak sought."""
