"""Measurements, as ratios to a floor or a baseline of the same run. `python -m benchmarks [cycle|one-trainer] …`"""
