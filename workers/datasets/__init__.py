"""Uploaded data: made into a folder of memory-mappable arrays once, and read from there by every child.

Preparing is a program of its own (`python -m workers.datasets`): a broken or hostile file can end nothing but it.
"""
