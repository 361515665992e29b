"""Pure functions from predictions to figures."""
