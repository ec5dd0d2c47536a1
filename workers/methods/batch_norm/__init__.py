"""Batch norm across trainers: what they normalise by, and what the server keeps."""
