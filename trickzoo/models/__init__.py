"""The architectures: nothing here knows of weights, names or files."""
