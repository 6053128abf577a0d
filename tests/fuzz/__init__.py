"""Fuzzing of the parsers of untrusted files: `make fuzz MINUTES=60`. The tests contain a short run.

`inputs.py` makes damaged and hostile inputs from valid ones, `targets/` contains a short function for each parser, `check.py` checks the
outcome of each input, and `__main__.py` divides the time among the targets and reports the failures.
"""
