"""Conversations and tagged words to ids and labels, proved row by row: templates, packing, preview."""
