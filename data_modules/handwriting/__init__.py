"""Handwriting as a data set: readers of ink, a synthetic pen, and their preparation."""
