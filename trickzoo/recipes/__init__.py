"""Trainings as plain data."""
