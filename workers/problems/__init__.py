"""What is trained: a model, its data, its loss and its metrics. Yours come from installed packages."""
