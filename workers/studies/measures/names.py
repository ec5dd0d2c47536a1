"""Names of the measures, for whoever checks a study without loading torch."""

MEASURES: dict[str, str] = {
    "loss-jitter": "workers.studies.measures.jitter:LossJitter",
    "scales": "workers.studies.measures.scales:Scales",
    "batch-norm": "workers.studies.measures.batch_norm:BatchNormError",
    "idle": "workers.studies.measures.idle:Idle",
}
