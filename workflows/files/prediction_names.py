"""What the files of a predicted patient are called, in one place for all that write, read or protect them."""

from __future__ import annotations

from pathlib import Path

from transforms.labels import SEGMENTATION_SUFFIX

PROBABILITIES, UNCERTAINTY = "probabilities", "uncertainty"
VOLUMES_FILE, OVERVIEW_FILE = "volumes.csv", "index.html"
SLICER_COLOURS, SNAP_COLOURS = "colours_3d_slicer.ctbl", "colours_itk_snap.label"
TABLES = (VOLUMES_FILE, OVERVIEW_FILE, SLICER_COLOURS, SNAP_COLOURS)
"""Of all patients, in the output folder itself; each patient's own files lie in a folder named after the case."""


def map_name(case: str, kind: str = SEGMENTATION_SUFFIX) -> str:
    """The name of the label map, or of the map of `PROBABILITIES` or `UNCERTAINTY`."""
    return f"{case}_{kind}.nii.gz"


def record_name(case: str) -> str:
    """The name of the record: how and with what a label map was predicted."""
    return f"{case}_{SEGMENTATION_SUFFIX}.json"


def report_name(case: str) -> str:
    """The name of the page that shows a patient."""
    return f"{case}_report.html"


def thumbnail_name(case: str) -> str:
    """The name of the small picture on the page that lists all patients."""
    return f"{case}_thumbnail.png"


def files_of_case(output_dir: Path, case: str) -> list[Path]:
    """Everything that a prediction may write of one patient."""
    maps = [map_name(case, kind) for kind in (SEGMENTATION_SUFFIX, PROBABILITIES, UNCERTAINTY)]
    return [output_dir / case / name for name in (*maps, record_name(case), report_name(case), thumbnail_name(case))]
