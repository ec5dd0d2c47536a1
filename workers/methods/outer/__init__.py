"""Outer optimizers: what the server does with what trainers bring home from several steps of their own."""
