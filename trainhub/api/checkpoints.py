"""Checkpoints: the list, the files, and bundles that load without TrainHub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, BinaryIO

from django.http import Http404, HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from ninja import Query, Router

from trainhub import access, summary
from trainhub.api.pages import Asked, Page, page
from trainhub.api.runs import CheckpointShape
from trainhub.bundles import Bundle, file_of, stem_of
from trainhub.models import Artifact, ArtifactKind

router = Router(tags=["Checkpoints"])

PIECE_BYTES = 1024 * 1024


def a_file(content_type: str) -> dict[str, Any]:
    """For the description of an operation that answers a file."""
    return {
        "responses": {
            200: {
                "description": "The file",
                "content": {content_type: {"schema": {"type": "string", "format": "binary"}}},
            }
        }
    }


@router.get(
    "/runs/{int:run_id}/checkpoints",
    response=Page[CheckpointShape],
    operation_id="list_checkpoints",
    summary="List a run's checkpoints",
)
def list_checkpoints(request: HttpRequest, run_id: int, asked: Query[Asked]) -> dict[str, Any]:
    """Newest first. The newest, the best and the final one are kept."""
    run = access.run_to_see(request.user, run_id)
    found = Artifact.objects.filter(run=run, kind=ArtifactKind.CHECKPOINT)
    return page(found, asked, lambda rows: [summary.checkpoint(row) for row in rows])


@router.get(
    "/runs/{int:run_id}/checkpoints/{int:artifact_id}",
    operation_id="download_checkpoint",
    summary="Download a checkpoint",
    url_name="api-checkpoint",
    openapi_extra=a_file("application/octet-stream"),
)
def download(request: HttpRequest, run_id: int, artifact_id: int) -> HttpResponseBase:
    """A safetensors file. Its SHA-256 is in the header X-Checksum-Sha256."""
    artifact = to_see(request, run_id, artifact_id)
    try:
        file = file_of(artifact).open("rb")
    except OSError:
        raise Http404 from None
    headers = {
        "Content-Disposition": f'attachment; filename="{stem_of(artifact)}.safetensors"',
        "Content-Length": str(artifact.size_bytes),
        "ETag": f'"{artifact.sha256}"',
        "X-Checksum-Sha256": artifact.sha256,
    }
    return StreamingHttpResponse(pieces(file), content_type="application/octet-stream", headers=headers)


@router.get(
    "/runs/{int:run_id}/checkpoints/{int:artifact_id}/bundle",
    operation_id="download_bundle",
    summary="Download a checkpoint with its model",
    url_name="api-bundle",
    openapi_extra=a_file("application/zip"),
)
def bundle(request: HttpRequest, run_id: int, artifact_id: int) -> HttpResponseBase:
    """A zip of the checkpoint, its model in plain PyTorch, and the few lines that load it: no TrainHub needed."""
    artifact = to_see(request, run_id, artifact_id)
    try:
        found = Bundle.of(artifact)
    except FileNotFoundError:
        raise Http404 from None
    headers = {"Content-Disposition": f'attachment; filename="{found.name}"'}
    return StreamingHttpResponse(found.stream(), content_type="application/zip", headers=headers)


def to_see(request: HttpRequest, run_id: int, artifact_id: int) -> Artifact:
    """Raises Http404 for one that is not this run's, and for whoever may not see the run."""
    run = access.run_to_see(request.user, run_id)
    artifact = get_object_or_404(Artifact, pk=artifact_id, run=run, kind=ArtifactKind.CHECKPOINT)
    artifact.run = run
    return artifact


async def pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    """A file bit by bit. Asynchronous, since Django takes what a synchronous iterator gives whole into memory."""
    with file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece
