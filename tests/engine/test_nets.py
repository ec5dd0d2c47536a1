"""Networks: what they are made of, and that their files stand alone."""

import ast
import sys
from pathlib import Path

import pytest
import torch

from workers import spec
from workers.problems import nets
from workers.problems.nets.resnet import ResNet, resnet18, resnet20
from workers.problems.nets.transformer import transformer

IMAGES = spec.Images(kind="images", dataset="any")


@pytest.mark.parametrize(
    "file", sorted(p for p in nets.FOLDER.glob("*.py") if p.name != "__init__.py"), ids=lambda p: p.stem
)
def test_a_network_s_file_needs_torch_and_the_standard_library_only(file: Path) -> None:
    tree = ast.parse(file.read_text())
    found = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    found += [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in found} - sys.stdlib_module_names == {"torch"}


def size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_resnet_20_has_the_paper_s_layers_and_weights() -> None:
    model = resnet20(3, 10)
    assert size(model) == pytest.approx(0.27e6, rel=0.02)  # He et al., 2015, table 6
    assert sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in model.modules()) == 20
    assert size(resnet20(3, 10, width=2)) == pytest.approx(4 * size(model), rel=0.02)


def test_resnet_18_has_eleven_million_weights_and_halves_the_image_three_times() -> None:
    model = resnet18(3, 10)
    assert size(model) == pytest.approx(11.17e6, rel=0.01)
    assert features(model, 32).shape == (1, 512, 4, 4)


def features(model: ResNet, side: int) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval().blocks(model.conv(torch.zeros(1, 3, side, side)))
    return found


@pytest.mark.parametrize("side", [5, 24, 32])
def test_a_shortcut_fits_images_of_any_size(side: int) -> None:
    assert resnet20(1, 4)(torch.rand(2, 1, side, side)).shape == (2, 4)


def test_a_character_is_predicted_from_those_before_it_alone() -> None:
    model = transformer(7, 6, layers=2, heads=2, width=8).eval()
    one, other = torch.tensor([[1, 2, 3, 4, 5, 6]]), torch.tensor([[1, 2, 3, 4, 0, 0]])
    with torch.no_grad():
        assert torch.equal(model(one)[:, :4], model(other)[:, :4])
        assert not torch.equal(model(one)[:, 4:], model(other)[:, 4:])


@pytest.mark.parametrize("kind", ["mlp", "cnn", "resnet20", "resnet18"])
def test_a_recipe_fits_the_shape_of_the_images(kind: str) -> None:
    part = spec.Images.model_validate({"kind": "images", "dataset": "any", "model": {"kind": kind}})
    model = nets.of_images(part, (3, 9, 12), 5).build()
    assert model(torch.rand(2, 3, 9, 12)).shape == (2, 5)
