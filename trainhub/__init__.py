"""People, pages and rows: the Django side of TrainHub. Nothing here imports torch."""
