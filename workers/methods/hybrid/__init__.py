"""Hybrid-parallel training (CN108460457A): convolutions data-parallel, the last layer cut into one slice per device."""
