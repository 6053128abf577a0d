"""Comparisons of speed with other libraries. `python -m benchmarks.speed` runs them; see `__main__`."""

TITLES = {"annotated": "evaluation of detectors and segmenters", "kernels": "single operations", "training_gpu": "training on a GPU"}
"""Titles of comparisons, by the names of their result files, where the name is not the title."""
