"""Weights: records of what exists, downloads and verification, reading of files, and loading into networks.

`record` and `manifest` say which weights exist, and `named` which of them a user names; `store` downloads their files, `local` finds and
verifies them on this machine; `tensors` and `header` read a file, `opened` opens what a user names; `convert` renames tensors and `load`
puts them into a network; `export` writes files.
"""
