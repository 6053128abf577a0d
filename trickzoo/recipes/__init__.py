"""Recipes: the settings of a training run as plain data."""
