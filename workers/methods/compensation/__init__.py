"""Compensations: what is done to a gradient that was computed on weights of some versions ago."""
