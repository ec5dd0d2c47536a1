"""Draws Plotly figures as SVG files, in a headless Chromium with the plotly.js that the plotly package brings along."""

from __future__ import annotations

import html
import importlib.util
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_SECONDS = 60
VIRTUAL_MS = 20_000
"""How long the page may think it takes: the browser does not wait for real."""

START, BETWEEN = "SVG:data:image/svg+xml,", ":END"

PAGE = """<!doctype html><meta charset="utf-8"><div id="plot"></div>
<script src="plotly.js"></script>
<script>
const draw = async (figure) => {
  const plot = await Plotly.newPlot("plot", figure.data, figure.layout, {staticPlot: true});
  const size = {width: figure.layout.width, height: figure.layout.height};
  return "SVG:" + await Plotly.toImage(plot, {format: "svg", ...size}) + ":END";
};
const all = async (figures) => {
  const drawn = [];
  for (const figure of figures) drawn.push(await draw(figure));
  document.body.textContent = drawn.join("\\n");
};
all(FIGURES);
</script>
"""


class NoBrowser(RuntimeError):
    """There is nothing to draw with, or it drew nothing."""


def browser() -> str | None:
    """The browser that would draw. None: there is none."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def svgs(figures: list[dict[str, Any]]) -> list[str]:
    """Each figure as SVG; its layout says how large. One browser draws all. Raises NoBrowser."""
    if not figures:
        return []
    program, plotly = browser(), _plotly_js()
    if program is None:
        raise NoBrowser(f"SVG files are drawn by a browser, and none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory(prefix="trainhub-figures-") as folder:
        page = Path(folder) / "figures.html"
        (Path(folder) / "plotly.js").symlink_to(plotly)
        page.write_text(PAGE.replace("FIGURES", json.dumps(figures).replace("</", "<\\/")))
        drawn = _drawn(program, page, folder)
    if len(drawn) != len(figures):
        raise NoBrowser(f"{program} drew {len(drawn)} of {len(figures)} figures")
    return drawn


def _drawn(program: str, page: Path, folder: str) -> list[str]:
    words = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
    words += [f"--user-data-dir={folder}/profile", f"--virtual-time-budget={VIRTUAL_MS}", page.as_uri()]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoBrowser(f"{program} drew nothing: {error}") from None
    _, *parts = done.stdout.split(START)
    return [unquote(html.unescape(part.partition(BETWEEN)[0])) for part in parts]


def _plotly_js() -> Path:
    """The package's own file, found without importing the package."""
    package = importlib.util.find_spec("plotly")
    if package is None or package.origin is None:
        raise NoBrowser("figures are drawn with plotly.js, and plotly is not installed")
    return Path(package.origin).parent / "package_data" / "plotly.min.js"
