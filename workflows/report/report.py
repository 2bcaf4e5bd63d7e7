"""The report of one patient: a page that a browser opens without network, server or anything installed.

Light on purpose: neither torch nor MONAI.
"""

from __future__ import annotations

from pathlib import Path

from transforms.labels import BACKGROUND
from workflows.data.case import Case
from workflows.data.find_cases import find_cases
from workflows.data.reading import BY_NAMES, Reading
from workflows.files.outputs import check_outputs
from workflows.files.text_files import write_text
from workflows.messages.errors import ConfigurationError, DatasetError
from workflows.report import sources
from workflows.report.findings import disagreement, largest_lesions
from workflows.report.page import Report, render_page
from workflows.report.warnings import Notice, warn_of_grid, warn_of_input, warn_of_prediction, warn_of_rounding
from workflows.scoring.score_case import score_case


def report_folder(
    folder: Path,
    out: Path,
    prediction: Path | None = None,
    reference: Path | None = None,
    reading: Reading = BY_NAMES,
    ignore_affine: bool = False,
) -> Path:
    """Write the report of the one case in a folder.

    Args:
        prediction: label map on the images' grid; what lies beside it (record, probabilities, uncertainty) is used too.
        reference: label map to compare with; the case's own segmentation if not given and there is one.
        ignore_affine: see `sources.read_label_map`.
    Raises:
        DatasetError: if the folder does not hold one case, or a file does not belong to it.
        ConfigurationError: if `out` is no .html name, lies in `folder`, is somebody else's file or cannot be written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigurationError(f"{out}: give the report a name that ends in .html.")
    cases = find_cases(folder, reading=reading).cases
    if len(cases) != 1:
        raise DatasetError(f"{folder}: holds {len(cases)} cases; name one patient's folder.")
    check_outputs([out], [folder])
    write_report(make_report(cases[0], folder, prediction, reference, ignore_affine), out)
    return out


def make_report(
    case: Case,
    root: Path,
    prediction: Path | None = None,
    reference: Path | None = None,
    ignore_affine: bool = False,
) -> Report:
    """Read, measure and compare; `root` is the case's folder or one above."""
    report = Report(case, sources.read_scan(case, case.modalities))
    grid = report.scan.grid
    if prediction:
        report.record = sources.read_record(prediction)
        classes = sources.classes_of(report.record)
        report.prediction = sources.read_label_map(prediction, case, grid, classes, report.warnings, ignore_affine)
        report.uncertain = sources.read_uncertain(prediction, grid)
        report.uncertainty = sources.read_uncertainty(prediction, grid, report.record)
    if reference:
        report.reference = sources.read_label_map(reference, case, grid, None, report.warnings, ignore_affine)
    elif case.segmentation:  # nobody asked for it: where it cannot be used, the report does without and says so
        try:
            report.reference = sources.read_label_map(case.segmentation, case, grid, None, report.warnings)
        except DatasetError as error:
            report.warnings.append(Notice("caution", f"The case's own segmentation is not shown: {error}"))
    _add_warnings(report, root)
    _add_findings(report)
    return report


def _add_warnings(report: Report, root: Path) -> None:
    slice_range = sources.slice_range_of(report.record)
    report.warnings += warn_of_input(report.case, root, report.case.modalities, slice_range)
    report.warnings += report.scan.warnings
    if report.prediction is not None:
        report.warnings += warn_of_prediction(report.prediction, report.scan.grid, slice_range, report.uncertain)
    report.warnings += warn_of_grid(report.scan.grid) + warn_of_rounding(report.scan.images)
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
    """Write the page, whole or not at all; raises `ConfigurationError` if it cannot be written."""
    write_text(out, render_page(report))
