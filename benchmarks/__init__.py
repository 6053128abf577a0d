"""Measurements of trickzoo."""
