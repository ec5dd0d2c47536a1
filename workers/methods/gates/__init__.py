"""Gates: which of the waiting gradients make the next update."""
