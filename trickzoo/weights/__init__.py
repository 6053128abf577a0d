"""From a weight's name to a verified file to a loaded model: record → manifest → store → convert → load; publish writes files."""
