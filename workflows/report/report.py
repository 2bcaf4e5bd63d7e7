"""The report of one patient: a page that a browser opens without network, server or anything installed.

Light on purpose: neither torch nor MONAI.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.files import write_whole
from transforms.labels import BACKGROUND
from workflows.data.case import Case
from workflows.data.find_cases import find_cases
from workflows.files.outputs import check_outputs
from workflows.messages.errors import ConfigurationError, DatasetError
from workflows.report.findings import Lesion, disagreement, largest_lesions, measure_label_map
from workflows.report.page import PageContent, render_page
from workflows.report.sources import (
    Scan,
    classes_of,
    read_label_map,
    read_record,
    read_scan,
    read_uncertain,
    read_uncertainty,
    slice_range_of,
)
from workflows.report.warnings import Notice, warn_of_grid, warn_of_input, warn_of_prediction, warn_of_rounding
from workflows.scoring.score_case import RegionScores, score_case
from workflows.scoring.surface_distances import Mask


@dataclass
class Report:
    """Everything that stands in a report.

    Attributes:
        prediction, reference: (x, y, z) class indices on the scan's grid.
        uncertain: where the most probable class is not probable; None where no probabilities were saved.
        uncertainty: (x, y, z) entropy of the class probabilities, 0 to 255; None where it was not saved.
        record: what the prediction noted of itself, as it was read: not to be trusted.
        jumps: largest first, by what they are: "lesion", "missed", "invented" or "uncertain".
    """

    case: Case
    scan: Scan
    prediction: NDArray[np.uint8] | None = None
    reference: NDArray[np.uint8] | None = None
    uncertain: Mask | None = None
    uncertainty: NDArray[np.uint8] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[Notice] = field(default_factory=list)
    jumps: dict[str, list[Lesion]] = field(default_factory=dict)
    scores: Mapping[str, RegionScores] | None = None

    @property
    def labels(self) -> NDArray[np.uint8] | None:
        """The label map that the report is about: the prediction, or else the reference."""
        return self.reference if self.prediction is None else self.prediction


def report_folder(folder: Path, out: Path, prediction: Path | None = None, reference: Path | None = None) -> Path:
    """Write the report of the one case in a folder.

    Args:
        prediction: label map on the images' grid; what lies beside it (record, probabilities, uncertainty) is used too.
        reference: label map to compare with; the case's own segmentation if not given and there is one.
    Raises:
        DatasetError: if the folder does not hold one case, or a file does not belong to it.
        ConfigurationError: if `out` is no .html name, lies in `folder`, is somebody else's file or cannot be written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigurationError(f"{out}: give the report a name that ends in .html.")
    cases = find_cases(folder).cases
    if len(cases) != 1:
        raise DatasetError(f"{folder}: holds {len(cases)} cases; name one patient's folder.")
    check_outputs([out], [folder])
    write_report(make_report(cases[0], folder, prediction, reference), out)
    return out


def make_report(case: Case, root: Path, prediction: Path | None = None, reference: Path | None = None) -> Report:
    """Read, measure and compare.

    Args:
        root: a folder above the case's own, or that.
    """
    report = Report(case, read_scan(case, case.modalities))
    grid = report.scan.grid
    if prediction:
        report.record = read_record(prediction)
        report.prediction = read_label_map(prediction, case, grid, classes_of(report.record))
        report.uncertain = read_uncertain(prediction, grid)
        report.uncertainty = read_uncertainty(prediction, grid, report.record)
    if reference:
        report.reference = read_label_map(reference, case, grid, _stated_classes(case))
    elif case.segmentation:
        _add_own_segmentation(report, case.segmentation)
    _add_warnings(report, root)
    _add_findings(report)
    return report


def _add_own_segmentation(report: Report, file: Path) -> None:
    """Nobody asked for it: where it cannot be used, the report goes without and says so."""
    case = report.case
    try:
        report.reference = read_label_map(file, case, report.scan.grid, _stated_classes(case))
    except DatasetError as error:
        report.warnings.append(Notice("caution", f"The case's own segmentation is not shown: {error}"))


def _stated_classes(case: Case) -> Mapping[int, int] | None:
    """Class index by value where the data set says what its labels mean (Decathlon)."""
    return case.convention.classes if case.convention else None


def _add_warnings(report: Report, root: Path) -> None:
    slice_range = slice_range_of(report.record)
    images = report.scan.images
    report.warnings += warn_of_input(report.case, root, report.case.modalities, slice_range)
    report.warnings += report.scan.warnings
    if report.prediction is not None:
        report.warnings += warn_of_prediction(report.prediction, report.scan.grid, slice_range, report.uncertain)
    report.warnings += warn_of_grid(report.scan.grid) + warn_of_rounding(images)
    report.warnings.sort(key=lambda warning: ("problem", "caution", "note").index(warning.grade))


def _add_findings(report: Report) -> None:
    spacing = report.scan.grid.spacing_mm
    if report.labels is not None:
        report.jumps["lesion"] = largest_lesions(report.labels != BACKGROUND, spacing)
    if report.prediction is not None and report.reference is not None:
        for name, mask in disagreement(report.prediction, report.reference).items():
            report.jumps[name] = largest_lesions(mask, spacing, count=1)
        report.scores = score_case(report.prediction, report.reference, spacing)
    if report.uncertain is not None:
        report.jumps["uncertain"] = largest_lesions(report.uncertain, spacing, count=1)


def write_report(report: Report, out: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        ConfigurationError: if it cannot be written.
    """
    label_maps = {
        name: labels
        for name, labels in (("prediction", report.prediction), ("reference", report.reference))
        if labels is not None
    }
    content = PageContent(
        case=report.case.id,
        created=time.strftime("%Y-%m-%d %H:%M"),
        grid=report.scan.grid,
        images=report.scan.images,
        brain=report.scan.brain,
        label_maps=label_maps,
        uncertain=report.uncertain,
        uncertainty=report.uncertainty,
        measures={name: measure_label_map(map_, report.scan.grid.spacing_mm) for name, map_ in label_maps.items()},
        scores=report.scores,
        jumps=report.jumps,
        warnings=report.warnings,
        record=report.record,
        slice_range=slice_range_of(report.record),
    )
    page = render_page(content)
    try:
        write_whole(out, lambda path: path.write_text(page, encoding="utf-8", newline="\n"))
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written ({error.strerror or error}).") from error
