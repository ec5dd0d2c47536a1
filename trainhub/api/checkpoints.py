"""Checkpoints as files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.text import slugify

from trainhub import access
from trainhub.api.problems import endpoint
from trainhub.models import Artifact, ArtifactKind

PIECE_BYTES = 1024 * 1024


@endpoint("GET")
def download(request: HttpRequest, run_id: int, artifact_id: int) -> HttpResponseBase:
    run = access.run_to_see(request.user, run_id)
    artifact = get_object_or_404(Artifact, pk=artifact_id, run=run, kind=ArtifactKind.CHECKPOINT)
    name = f"{slugify(run.name) or 'run'}-{run.pk}-v{artifact.version}.safetensors"
    file = open_inside_home(artifact.path)
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(artifact.size_bytes),
        "ETag": f'"{artifact.sha256}"',
        "X-Checksum-Sha256": artifact.sha256,
    }
    return StreamingHttpResponse(pieces(file), content_type="application/octet-stream", headers=headers)


async def pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    """A file bit by bit. Asynchronous, since Django takes what a synchronous iterator gives whole into memory."""
    with file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece


def open_inside_home(path: str) -> BinaryIO:
    """Open a file of a run. Raises Http404 where it is gone, or where its row points out of our own home."""
    file = Path(settings.HOME, path).resolve()
    if not file.is_relative_to(Path(settings.HOME).resolve()):
        raise Http404
    try:
        return file.open("rb")
    except OSError:
        raise Http404 from None
