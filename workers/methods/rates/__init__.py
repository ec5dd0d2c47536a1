"""Rate rules: how long a step each gradient of an update takes."""
