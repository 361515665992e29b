"""Attacks: hostile recipes, data, run folders, stores, kills and requests, none of which may end in a traceback or damage."""
