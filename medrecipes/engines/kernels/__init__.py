"""Fused layers, attention over packed sequences, CUDA graphs."""
