"""From a weight's name to a verified file to a loaded model: record → manifest → store → tensors → convert → load; publish writes files."""
