"""Which weights a run evaluates and exports: the last ones, or a mean of the latest."""
