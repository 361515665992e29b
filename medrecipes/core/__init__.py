"""Errors, whole-or-absent files and the content-addressed store, console, Hub client, process group; knows no recipe."""
