"""Compiled passes: all rules of a run fused into one C++ loop over the server's vectors."""
