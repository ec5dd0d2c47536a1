"""The published rules, one pure file each. They import torch and their own base, nothing else."""
