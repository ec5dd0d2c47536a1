"""The REST API from Python: `Client(url, token)`. No Django, no torch; what `trainhub` at a shell does goes through it.

with Client.from_environment() as client:
    experiment = client.submit(yaml=Path("spec.yaml").read_text(), seeds=[0, 1, 2])
    for progress in client.follow(experiment.runs[0].id):
        print(progress.run.version, progress.loss)
"""

from trainhub.client.client import Client
from trainhub.client.errors import (
    ApiError,
    BadAddress,
    ClientError,
    Damaged,
    Misunderstood,
    NotLoggedIn,
    NotReachable,
    TokenRefused,
    TookTooLong,
)
from trainhub.client.following import Progress
from trainhub.client.login import Login
from trainhub.client.shapes import (
    Check,
    Checkpoint,
    Comparison,
    Dataset,
    Event,
    Experiment,
    FieldProblem,
    Gpu,
    Line,
    LogLine,
    Me,
    Node,
    Run,
    Series,
    Token,
)

__all__ = [
    "ApiError",
    "BadAddress",
    "Check",
    "Checkpoint",
    "Client",
    "ClientError",
    "Comparison",
    "Damaged",
    "Dataset",
    "Event",
    "Experiment",
    "FieldProblem",
    "Gpu",
    "Line",
    "LogLine",
    "Login",
    "Me",
    "Misunderstood",
    "Node",
    "NotLoggedIn",
    "NotReachable",
    "Progress",
    "Run",
    "Series",
    "Token",
    "TokenRefused",
    "TookTooLong",
]
