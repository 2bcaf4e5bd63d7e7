"""The page over a folder of predicted patients: a row and a thumbnail each, leading to their reports."""

from __future__ import annotations

import base64
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.files import WRITTEN_BY, write_whole
from transforms.labels import BACKGROUND, REGION_NAMES, REGIONS
from workflows.files.prediction_names import OVERVIEW_FILE, report_name, thumbnail_name
from workflows.image_files.brain import grey_limits
from workflows.pictures.colours import CLASS_COLOURS
from workflows.report.page import Report, render
from workflows.report.volumes import extent_of_brain

OPACITY = 0.55
THUMBNAIL_MM_PER_PX = 1.5


def thumbnail(report: Report) -> NDArray[np.uint8]:
    """The axial slice with most tumour, else the middle one, as radiologists see it: (height, width, 3), square
    pixels of `THUMBNAIL_MM_PER_PX`.
    """
    (x0, x1), (y0, y1), (z0, z1) = extent_of_brain(report.scan.brain, report.scan.grid)
    labels = report.labels
    per_slice = np.zeros(1) if labels is None else (labels != BACKGROUND).sum(axis=(0, 1))
    axial = int(per_slice.argmax()) if per_slice.any() else (z0 + z1) // 2
    columns, rows = (
        _sampled(first, last, spacing)[::-1]  # the patient's right on the left, the front above
        for first, last, spacing in zip((x0, y0), (x1, y1), report.scan.grid.spacing_mm[:2], strict=True)
    )
    scan = report.scan.under[..., axial][np.ix_(columns, rows)].T.astype(np.float64)
    black, white = grey_limits(scan[scan != 0])
    grey = np.clip((scan - black) / (white - black), 0, 1) * 255
    picture = np.repeat(grey[..., None], 3, axis=-1)
    if labels is not None:
        classes = labels[..., axial][np.ix_(columns, rows)].T
        for index, colour in CLASS_COLOURS.items():
            picture[classes == index] *= 1 - OPACITY
            picture[classes == index] += OPACITY * np.asarray(colour)
    return np.asarray(np.rint(picture), np.uint8)


def _sampled(first: int, last: int, spacing_mm: float) -> NDArray[np.intp]:
    """Nearest voxels at the distance of the thumbnail's pixels."""
    count = max(1, round((last - first + 1) * spacing_mm / THUMBNAIL_MM_PER_PX))
    return np.rint(np.linspace(first, last, count)).astype(np.intp)


def write_thumbnail(report: Report, path: Path) -> None:
    """As PNG."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    written_by = PngInfo()
    written_by.add_text("Software", WRITTEN_BY)
    write_whole(path, lambda partial: Image.fromarray(thumbnail(report)).save(partial, pnginfo=written_by))


def write_overview(output_dir: Path, volumes_file: Path) -> Path | None:
    """Write `OUT/index.html` for the patients in `volumes.csv`; None, and nothing written, for a single patient."""
    with volumes_file.open(encoding="utf-8", newline="") as table:
        rows = [_row(row, output_dir) for row in csv.DictReader(table)]
    if len(rows) < 2:
        return None
    folder, out = output_dir.resolve().name, output_dir / OVERVIEW_FILE
    page = render("overview.html", rows=rows, regions=REGION_NAMES, folder=folder)
    write_whole(out, lambda path: path.write_text(page, encoding="utf-8", newline="\n"))
    return out


def _row(row: Mapping[str, str], output_dir: Path) -> dict[str, Any]:
    case = row["case"]
    picture, page = output_dir / case / thumbnail_name(case), output_dir / case / report_name(case)
    return {
        "case": case,
        "volumes": {region: f"{float(row[region]):.1f}" for region in REGIONS},
        "thumbnail": base64.b64encode(picture.read_bytes()).decode("ascii") if picture.is_file() else None,
        "link": f"{case}/{page.name}" if page.is_file() else None,
    }
