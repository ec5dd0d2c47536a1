"""The audit: who did what. Written in the transaction of what was done, so that neither is there without the other."""

from __future__ import annotations

from django.contrib.auth.models import User

from trainhub.models import AuditEntry, Node, Project, Run


def record(
    by: User, action: str, subject: str, message: str, *, subject_id: int | None = None, project: Project | None = None
) -> None:
    AuditEntry.objects.create(
        by=by,
        username=by.get_username(),
        action=action,
        subject=subject,
        subject_id=subject_id,
        project=project,
        message=message,
    )


def of_run(by: User, action: str, run: Run, message: str) -> None:
    record(by, action, "run", message, subject_id=run.pk, project=run.experiment.project)


def of_node(by: User, action: str, node: Node, message: str) -> None:
    record(by, action, "node", message, subject_id=node.pk)
