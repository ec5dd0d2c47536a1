"""The database of a process that was told of none."""
