"""Checkpoints as rows: added by the server's own epoch only, pruned by the spec's rule."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from trainhub.actions import announce
from trainhub.models import Artifact, ArtifactKind, Member, Run
from workers.spec import Checkpoints, Target


def add_checkpoint(member: Member, data: dict[str, Any]) -> bool:
    """Write the row of a checkpoint file. False: the member's epoch is over, and the file must go.

    `data` is the child's `checkpoint` event: path, sha256, size_bytes, version, metrics, final.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=member.attempt.run_id)
        if run.epoch != member.epoch:
            return False
        # The final checkpoint may be written over a periodic one of the same version.
        Artifact.objects.update_or_create(
            run=run,
            kind=ArtifactKind.CHECKPOINT,
            epoch=member.epoch,
            version=data["version"],
            defaults={
                "attempt": member.attempt.number,
                "path": data["path"],
                "sha256": data["sha256"],
                "size_bytes": data["size_bytes"],
                "metrics": data.get("metrics", {}),
                "final": data.get("final", False),
            },
        )
        announce.run_changed(run.pk)
        return True


def prune(run: Run) -> list[str]:
    """Drop the rows of checkpoints that the spec does not keep; returns their paths, for deletion.

    The newest and the final one always stay.
    """
    spec = run.run_spec
    with transaction.atomic():
        found = list(
            Artifact.objects.select_for_update()
            .filter(run=run, kind=ArtifactKind.CHECKPOINT)
            .order_by("-version", "-epoch")
        )
        keep = {a.pk for a in to_keep(found, spec.checkpoints, spec.budget.target)}
        dropped = [a for a in found if a.pk not in keep]
        Artifact.objects.filter(pk__in=[a.pk for a in dropped]).delete()
        return [a.path for a in dropped]


def to_keep(newest_first: list[Artifact], rule: Checkpoints, target: Target | None) -> list[Artifact]:
    """The last few, the best few by the target's metric or else by evaluation loss, and every final one."""
    kept = newest_first[: rule.keep_last] + [a for a in newest_first if a.final]
    metric = target.metric if target else "loss"
    sign = -1.0 if target and target.direction == "max" else 1.0
    measured = [a for a in newest_first if isinstance(a.metrics.get(metric), int | float)]
    return kept + sorted(measured, key=lambda a: sign * a.metrics[metric])[: rule.keep_best]


def newest_checkpoints(run: Run) -> list[Artifact]:
    """Checkpoints of this run to go on from, best choice first."""
    return list(Artifact.objects.filter(run=run, kind=ArtifactKind.CHECKPOINT).order_by("-version", "-epoch"))
