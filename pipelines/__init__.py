"""Command-line workflows: one verb, one file."""
