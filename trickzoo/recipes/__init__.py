"""Recipes: the settings of a training as plain data."""
