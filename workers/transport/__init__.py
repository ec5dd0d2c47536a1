"""How gradients and weights travel: frames over a socket, tensors by hand-over slots."""
