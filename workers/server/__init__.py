"""The parameter server: a pure core, and the loop that feeds it from sockets."""
