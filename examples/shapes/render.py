"""Renders small colour images of ten shapes, a folder for each, into one zip file: data to upload.

    python examples/shapes/render.py shapes.zip

Shapes have random colours, sizes, angles and places; gradients, lines and spots lie behind and over them, and noise
over all. The same seed gives the same pixels.
"""

from __future__ import annotations

import argparse
import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from rich.progress import track

SIDE = 24
FINE = 4
"""Shapes are drawn so many times as large, and made smaller: their edges come out smooth."""
RADIUS = (6.0, 10.0)
"""Pixels, from the smallest to the largest shape."""
OFF_CENTRE = 3.0
LEAST_CONTRAST = 90.0
"""Distance of a shape's colour from the one behind it, of 442 between black and white."""
NOISE = 12.0
LINES, SPOTS = 3, 3

Random = np.random.Generator
Point = tuple[float, float]
Colour = npt.NDArray[np.float64]


def polygon(corners: int, *, inner: float = 1.0) -> list[Point]:
    """Corners on a circle of radius 1; with `inner` below 1 a star, whose dents are that far from the middle."""
    count = corners if inner == 1.0 else 2 * corners
    radii = [inner if inner != 1.0 and i % 2 else 1.0 for i in range(count)]
    return [(r * math.cos(2 * math.pi * i / count), r * math.sin(2 * math.pi * i / count)) for i, r in enumerate(radii)]


def circle(radius: float = 1.0, at: Point = (0.0, 0.0), *, share: float = 1.0) -> list[Point]:
    """A circle, or the first `share` of its way round."""
    angles = np.linspace(0, 2 * math.pi * share, 40)
    return [(at[0] + radius * math.cos(a), at[1] + radius * math.sin(a)) for a in angles]


CROSS = [(1, 0.3), (0.3, 0.3), (0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3)]
ARROW = [(1, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3), (-1, -0.3), (0.1, -0.3), (0.1, -0.8)]
MOON = (0.95, (0.5, 0.0))

# What is drawn, then what is taken away from it.
SHAPES: dict[str, tuple[list[Point], list[Point]]] = {
    "arrow": ([(float(x), float(y)) for x, y in ARROW], []),
    "circle": (circle(), []),
    "cross": ([*CROSS, *[(-x, -y) for x, y in CROSS]], []),
    "half": (circle(share=0.5), []),
    "moon": (circle(), circle(*MOON)),
    "pentagon": (polygon(5), []),
    "ring": (circle(), circle(0.6)),
    "square": (polygon(4), []),
    "star": (polygon(5, inner=0.45), []),
    "triangle": (polygon(3), []),
}


def mask(draw: Callable[[ImageDraw.ImageDraw], None]) -> npt.NDArray[np.float64]:
    """How much of each pixel is covered by what is drawn, (SIDE, SIDE, 1) from 0 to 1."""
    fine = Image.new("L", (SIDE * FINE, SIDE * FINE))
    draw(ImageDraw.Draw(fine))
    small = fine.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float64)[:, :, None] / 255


def placed(points: list[Point], middle: Point, radius: float, angle: float) -> list[Point]:
    cos, sin = radius * math.cos(angle), radius * math.sin(angle)
    return [(FINE * (middle[0] + x * cos - y * sin), FINE * (middle[1] + x * sin + y * cos)) for x, y in points]


def shape_mask(name: str, random: Random) -> npt.NDArray[np.float64]:
    whole, taken = SHAPES[name]
    x, y = SIDE / 2 + random.uniform(-OFF_CENTRE, OFF_CENTRE, 2)
    radius, angle = random.uniform(*RADIUS), random.uniform(0, 2 * math.pi)

    def draw(canvas: ImageDraw.ImageDraw) -> None:
        canvas.polygon(placed(whole, (x, y), radius, angle), fill=255)
        if taken:
            canvas.polygon(placed(taken, (x, y), radius, angle), fill=0)

    return mask(draw)


def clutter(random: Random) -> Callable[[ImageDraw.ImageDraw], None]:
    """Some lines and spots."""
    lines = random.uniform(0, SIDE * FINE, (random.integers(LINES), 4)).tolist()
    spots = random.uniform(0, SIDE * FINE, (random.integers(SPOTS), 2)).tolist()
    size = random.uniform(0.5, 1.8) * FINE

    def draw(canvas: ImageDraw.ImageDraw) -> None:
        for line in lines:
            canvas.line(line, fill=255, width=FINE)
        for x, y in spots:
            canvas.ellipse((x - size, y - size, x + size, y + size), fill=255)

    return draw


def other_colour(random: Random, than: Colour) -> Colour:
    while True:
        found = random.uniform(0, 255, 3)
        if np.linalg.norm(found - than) >= LEAST_CONTRAST:
            return found


def gradient(random: Random, colour: Colour) -> npt.NDArray[np.float64]:
    """From one colour to one near it, in some direction."""
    across, down = random.uniform(-1, 1, 2)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return colour + ((across * x + down * y) / 2)[:, :, None] * random.normal(0, 40, 3)


def image(name: str, random: Random) -> npt.NDArray[np.uint8]:
    behind = random.uniform(0, 255, 3)
    pixels = gradient(random, behind)
    front = other_colour(random, behind)
    for cover, colour in (
        (mask(clutter(random)), other_colour(random, behind)),
        (shape_mask(name, random), gradient(random, front)),
        (mask(clutter(random)), other_colour(random, front)),
    ):
        pixels = pixels * (1 - cover) + colour * cover
    pixels += random.normal(0, NOISE, pixels.shape)
    return pixels.clip(0, 255).astype(np.uint8)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def render(path: Path, *, images: int, seed: int) -> None:
    """Write so many images, as many of each class as of any other."""
    random = np.random.default_rng(seed)
    names = list(SHAPES)
    with zipfile.ZipFile(path, "w") as archive:
        for index in track(range(images), description="rendering"):
            name = names[index % len(names)]
            # An entry of its own date would make another file of the same images
            entry = zipfile.ZipInfo(f"{name}/{index // len(names):05}.png")
            archive.writestr(entry, png(image(name, random)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Render small colour images of ten shapes into a zip file.")
    parser.add_argument("zip", type=Path, help="the file to write")
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    render(given.zip, images=given.images, seed=given.seed)
    print(f"{given.images:,} images of {len(SHAPES)} classes, {SIDE}×{SIDE} pixels, in {given.zip}")


if __name__ == "__main__":
    main()
