"""A checkpoint as a zip that needs nothing of ours: weights, the network's own file, and ten lines that load it."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.text import slugify

from trainhub.models import Artifact, Attempt, Dataset
from workers import spec
from workers.problems import nets
from workers.problems.nets import Recipe
from workers.spec import RunSpec

PIECE_BYTES = 1024 * 1024

LOADING = '''"""Loads this checkpoint into plain PyTorch, and shows that it computes. Needs torch and safetensors."""

from pathlib import Path

import torch
from safetensors.torch import load_file

{imports}

model = {model}
tensors = load_file(Path(__file__).with_name("{file}"))
model.load_state_dict({{name: t for name, t in tensors.items() if not name.startswith("trainhub/")}})
model.eval()
with torch.no_grad():
    print("output:", tuple(model({example}).shape))
'''
LOADING_THEIRS = '''"""Loads this checkpoint into your own problem's model. Needs its package, and TrainHub."""

{imports}
from pathlib import Path

from safetensors.torch import load_file

problem = {problem}(**{parameters})
model = problem.model()
tensors = load_file(Path(__file__).with_name("{file}"))
model.load_state_dict({{name: t for name, t in tensors.items() if not name.startswith("trainhub/")}})
model.eval()
print(model)
'''
LOADING_TENSORS = '''"""Shows what this checkpoint holds. Needs torch and safetensors."""

from pathlib import Path

from safetensors.torch import load_file

for name, tensor in load_file(Path(__file__).with_name("{file}")).items():
    print(name, tuple(tensor.shape))
'''


@dataclass(frozen=True)
class Bundle:
    """Files of a zip: a checkpoint, and texts by name."""

    checkpoint: Path
    file: str
    """Name of the checkpoint in the zip."""
    texts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, artifact: Artifact) -> Bundle:
        """Raises FileNotFoundError where the checkpoint's file is gone, or lies out of our own home."""
        checkpoint = file_of(artifact)
        run, run_spec = artifact.run, artifact.run.run_spec
        info = dataset_info(artifact, run_spec)
        file = f"{stem_of(artifact)}.safetensors"
        about = f"{run.name} (run {run.pk}), version {artifact.version}"
        return cls(checkpoint, file, texts_of(run_spec.problem, info, file=file, about=about))

    @property
    def name(self) -> str:
        """Of the zip."""
        return f"{Path(self.file).stem}.zip"

    def pieces(self) -> Iterator[bytes]:
        """The zip bit by bit, never in memory as a whole. Raises OSError."""
        sink = Sink()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
            for name, text in self.texts.items():
                archive.writestr(name, text)
            yield sink.take()
            with self.checkpoint.open("rb") as source, archive.open(self.file, "w", force_zip64=True) as target:
                while piece := source.read(PIECE_BYTES):
                    target.write(piece)
                    yield sink.take()
        yield sink.take()

    async def stream(self) -> AsyncIterator[bytes]:
        """The same for an asynchronous server: the disk is waited for in a thread."""
        pieces = self.pieces()
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece


class Sink(io.RawIOBase):
    """Takes what a zip file writes and hands it on. It can't be rewound, so sizes follow behind each file."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def take(self) -> bytes:
        """What was written since the last call."""
        taken, self._held = bytes(self._held), bytearray()
        return taken


def file_of(artifact: Artifact) -> Path:
    """A run's file. Raises FileNotFoundError where it is gone, or where its row points out of our own home."""
    home = Path(settings.HOME).resolve()
    file = Path(home, artifact.path).resolve()
    if not (file.is_relative_to(home) and file.is_file()):
        raise FileNotFoundError(artifact.path)
    return file


def stem_of(artifact: Artifact) -> str:
    """What its file is called where it is taken, without an ending."""
    return f"{slugify(artifact.run.name) or 'run'}-{artifact.run_id}-v{artifact.version}"


def dataset_info(artifact: Artifact, run_spec: RunSpec) -> dict[str, Any] | None:
    """Facts of the data it was trained on, as its attempt noted them. None: there are none."""
    attempt = Attempt.objects.filter(run=artifact.run, number=artifact.attempt).first()
    if attempt and (noted := attempt.environment.get("dataset")):
        return dict(noted)
    name = getattr(run_spec.problem, "dataset", None)
    found = name and Dataset.objects.filter(project=artifact.run.experiment.project_id, name=name).first()
    return found.facts if found else None


def texts_of(problem: spec.Problem, info: dict[str, Any] | None, *, file: str, about: str) -> dict[str, str]:
    """All files of a bundle but the checkpoint. `info` is that of the problem's data set."""
    recipe = recipe_of(problem, info)
    texts = {"README.txt": readme(problem, recipe, about), "load.py": loading(problem, recipe, file)}
    if recipe is not None:
        texts["model.py"] = recipe.source()
    if info is not None:
        texts["data.json"] = json.dumps(info, indent=1, ensure_ascii=False)
    return texts


def recipe_of(problem: spec.Problem, info: dict[str, Any] | None) -> Recipe | None:
    """The network. None: it is of a user's own, or what it was built for is not known any more."""
    match problem, info:
        case spec.Digits(), _:
            return nets.of_digits(problem)
        case spec.Glyphs(), _:
            return nets.of_glyphs(problem)
        case spec.Images(), dict():
            return nets.of_images(problem, tuple(info["shape"]), len(info["classes"]))
        case spec.Table(), dict():
            target = info["target"]
            return nets.of_table(problem, len(info["features"]), len(target.get("classes") or [0]))
        case spec.Text(), dict():
            return nets.of_text(problem, info["vocabulary_size"])
        case _:
            return None


def loading(problem: spec.Problem, recipe: Recipe | None, file: str) -> str:
    """The text of load.py."""
    if recipe is not None:
        arguments = ", ".join(f"{name}={value!r}" for name, value in recipe.arguments.items())
        kind = ", dtype=torch.int64" if recipe.tokens else ""
        return LOADING.format(
            imports=f"from model import {recipe.builder}",
            model=f"{recipe.builder}({arguments})",
            file=file,
            example=f"torch.zeros({', '.join(map(str, (1, *recipe.shape)))}{kind})",
        )
    match problem:
        case spec.Installed(name=name, parameters=parameters):
            imports = "from importlib.metadata import entry_points"
            found = f"next(e for e in entry_points(group='trainhub.problems') if e.name == {name!r}).load()"
        case spec.PythonTarget(target=target, parameters=parameters):
            module, _, name = target.partition(":")
            imports = "from importlib import import_module"
            found = f"getattr(import_module({module!r}), {name!r})"
        case _:
            return LOADING_TENSORS.format(file=file)
    return LOADING_THEIRS.format(imports=imports, problem=found, parameters=repr(parameters), file=file)


INPUTS = {
    "digits": "Input: float32 (n, 1, 8, 8), pixels from 0 to 1. Output: logits (n, 10).",
    "glyphs": "Input: float32 (n, 1, 16, 16), of mean near 0. Output: logits (n, classes).",
    "images": "Input: float32 (n, channels, height, width): {scaled}. Output: logits (n, classes).",
    "table": "Input: float32 (n, features), (value - mean) / std by feature, in the order of data.json.\n"
    "Output: logits (n, classes), or (n, 1): the target less its mean, over its std.",
    "text": "Input: int64 (n, length), numbers of characters in the order of the vocabulary in data.json (none there: "
    "bytes).\nOutput: logits of the next character (n, length, characters).",
}


NEEDS = "python load.py   loads the weights; it needs torch and safetensors (pip install torch safetensors)"
MODEL = "model.py         the network, in plain PyTorch"
THEIRS = "The network is your problem's own: load.py imports it."
UNKNOWN = "The network is not here: what it was built for is not known any more."
OWN = "Tensors whose names start with trainhub/ are the optimizer's and the method's state; a model needs none of them."


def readme(problem: spec.Problem, recipe: Recipe | None, about: str) -> str:
    if recipe is not None:
        middle = [MODEL, "", INPUTS[problem.kind].format(scaled=_scaled(problem))]
    else:
        middle = ["", THEIRS if isinstance(problem, spec.Installed | spec.PythonTarget) else UNKNOWN]
    return "\n".join([about, "", NEEDS, *middle, "", OWN, ""])


def _scaled(problem: spec.Problem) -> str:
    scaled = isinstance(problem, spec.Images) and problem.normalize
    plain = "pixels / 255 where data.json says uint8, else as they are"
    return f"{plain}; less mean, over std by channel (data.json)" if scaled else plain
