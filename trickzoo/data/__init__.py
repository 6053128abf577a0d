"""Image sets and transforms."""
