"""The trainer: batches by number, the local loop, injected delays."""
