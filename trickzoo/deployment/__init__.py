"""Networks outside PyTorch's eager mode: in files for other programs, and in other engines."""
