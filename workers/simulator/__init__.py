"""The same server and methods under a virtual clock: simulation, and replay of what a real run did."""
