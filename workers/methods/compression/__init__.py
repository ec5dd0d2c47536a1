"""What is sent instead of a vector of floats, where the line between two hosts is slow."""
