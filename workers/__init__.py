"""The training engine: tensors, clocks and sockets. Only `tasks`, `bridge` and the node agent know Django."""
