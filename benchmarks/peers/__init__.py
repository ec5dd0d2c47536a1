"""Other ways to a parameter server's cycle. `table` runs them; each is a program of its own in `.venv-peers`.

These import torch, numpy and their own library only, never TrainHub: their environment has none of its packages.
"""
