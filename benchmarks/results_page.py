"""The page of results that benchmarks write to, section by section."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap
import time
from importlib.metadata import version
from pathlib import Path

from transforms.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results.md"
LINE_LENGTH = 120


def brats_unet(*arguments: str) -> None:
    """Run the command; stop where it fails."""
    subprocess.run([sys.executable, "-m", "workflows", *arguments], check=True, cwd=ROOT)


def machine() -> str:
    """Hardware, versions and date, in a few words."""
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, no GPU; torch {version('torch')}, MONAI {version('monai')}; "
        f"{time.strftime('%Y-%m-%d')}"
    )


def paragraph(text: str) -> str:
    """Wrapped as the rest of the page is."""
    return textwrap.fill(" ".join(text.split()), LINE_LENGTH, break_long_words=False, break_on_hyphens=False)


def replace_section(title: str, text: str, file: Path = RESULTS) -> None:
    """Put `text` under the heading `title`, leaving the other sections as they are."""
    head, heading, rest = file.read_text().partition(f"\n## {title}\n")
    if not heading:
        sys.exit(f"error: {file}: has no section {title}.")
    _, next_heading, after = rest.partition("\n## ")
    write_whole(file, lambda path: path.write_text(f"{head}{heading}\n{text}\n{next_heading}{after}"))
