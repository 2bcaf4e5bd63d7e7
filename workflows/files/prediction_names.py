"""What the files of a predicted patient are called, so that whoever writes, reads or protects them says it once."""

from __future__ import annotations

from pathlib import Path

from transforms.files import PROBABILITIES, UNCERTAINTY, map_name
from transforms.labels import SEGMENTATION_SUFFIX

VOLUMES_FILE, OVERVIEW_FILE = "volumes.csv", "index.html"
SLICER_COLOURS, SNAP_COLOURS = "colours_3d_slicer.ctbl", "colours_itk_snap.label"
TABLES = (VOLUMES_FILE, OVERVIEW_FILE, SLICER_COLOURS, SNAP_COLOURS)
"""Of all patients, in the output folder itself; each patient's own files lie in a folder named after the case."""


def record_name(case: str) -> str:
    """Of what a prediction notes of itself."""
    return f"{case}_{SEGMENTATION_SUFFIX}.json"


def report_name(case: str) -> str:
    """Of the page to look at a patient."""
    return f"{case}_report.html"


def thumbnail_name(case: str) -> str:
    """Of the small picture in the page over all patients."""
    return f"{case}_thumbnail.png"


def files_of_case(output_dir: Path, case: str) -> list[Path]:
    """Everything that a prediction may write of one patient."""
    maps = [map_name(case, kind) for kind in (SEGMENTATION_SUFFIX, PROBABILITIES, UNCERTAINTY)]
    return [output_dir / case / name for name in (*maps, record_name(case), report_name(case), thumbnail_name(case))]
