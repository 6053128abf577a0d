"""Fuzzing of every parser of files from strangers: `make fuzz MINUTES=60`, and a short run among the tests.

`inputs.py` makes damaged and hostile inputs from valid ones, `targets/` has one short function for each parser, `check.py` states what must
hold for each input, and `__main__.py` shares the minutes between the targets and reports.
"""
