"""Comparisons of speed with other libraries. `python -m benchmarks.speed` runs them; see `__main__`."""
