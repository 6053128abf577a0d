"""`python -m trickzoo`, which is the command `trickzoo`."""

from trickzoo.cli import trickzoo

if __name__ == "__main__":
    trickzoo()
