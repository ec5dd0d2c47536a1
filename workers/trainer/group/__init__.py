"""A machine group: several devices of one machine that are one asynchronous trainer (layout.kind hybrid)."""
