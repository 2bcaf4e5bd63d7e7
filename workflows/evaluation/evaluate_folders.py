"""Two folders of label maps from any program: matched by case, checked, scored."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib

from transforms.geometry import same_place
from transforms.labels import ENHANCING_IN_FILES_FROM_2023, ENHANCING_IN_FILES_TO_2022
from transforms.windows import STUDY_WINDOW
from workflows.data.label_conventions import BRATS_FROM_2023, BRATS_TO_2022, summarise_labels
from workflows.data.nifti_files import describes_a_volume, format_shape, load_image, read_voxels
from workflows.data.oriented import as_classes
from workflows.evaluation.find_label_maps import LabelMapFolder, find_label_maps
from workflows.evaluation.output_files import SCORE_FILES, report_scores
from workflows.files.outputs import check_outputs
from workflows.image_files.segments import on_common_grid
from workflows.machine.processes import in_processes
from workflows.messages.errors import DatasetError
from workflows.scoring.false_positives import FalsePositives, false_positives
from workflows.scoring.per_case_csv import rows_of_case
from workflows.scoring.score_case import Rules
from workflows.scoring.surface_distances import Definition

PREDICTION, REFERENCE = "prediction", "reference"

BRATS_CLASSES = {**BRATS_TO_2022.classes, **BRATS_FROM_2023.classes}
"""Class index of each value of either convention of BraTS; a folder follows one of them."""
ENHANCING_VALUES = (ENHANCING_IN_FILES_TO_2022, ENHANCING_IN_FILES_FROM_2023)

Sides = Mapping[str, LabelMapFolder]
Classes = Mapping[str, Mapping[int, int]]  # class index of each value, by side


@dataclass(frozen=True)
class Pair:
    """The two label maps of one case.

    Attributes:
        files: by side.
        values: the label values by side, once `check_pair` has read them.
        problem: why the pair cannot be scored; empty if it can.
    """

    case: str
    files: Mapping[str, Path]
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class ScoredFolders:
    """The scores of two folders.

    Attributes:
        rows: see `workflows.scoring.per_case_csv`.
        skipped: {"case", "reason"} of each case left out.
        enhancing: the value of enhancing tumour in the files, by side; None where no file holds any.
        false_positives: by case.
    """

    rows: list[dict[str, Any]]
    skipped: list[dict[str, str]]
    enhancing: dict[str, int | None]
    false_positives: dict[str, FalsePositives]


def score_folders(
    predictions: Path,
    references: Path,
    rules: Rules = "2020",
    hd95: Definition = "brats",
    skip_bad: bool = False,
    workers: int | None = None,
) -> ScoredFolders:
    """Score the label maps below one folder against those below another; all are checked before any is scored.

    Args:
        predictions, references: see `find_label_maps`.
        skip_bad: leave out the cases that cannot be scored instead of refusing all.
    Raises:
        DatasetError: with one line for each case that cannot be scored, or if none can.
    """
    sides = {PREDICTION: find_label_maps(predictions), REFERENCE: find_label_maps(references)}
    classes = {side: found.convention.classes if found.convention else BRATS_CLASSES for side, found in sides.items()}
    pairs, problems = match_cases(sides)
    checked = in_processes(functools.partial(check_pair, classes=classes), pairs, "checking", workers)
    problems |= {pair.case: pair.problem for pair in checked if pair.problem}
    sound = [pair for pair in checked if not pair.problem]
    enhancing = {}
    for side, found in sides.items():
        enhancing[side], fewer = (ENHANCING_IN_FILES_FROM_2023, {}) if found.convention else decide_value(sound, side)
        problems |= fewer
    good = [pair for pair in sound if pair.case not in problems]
    if problems and not (skip_bad and good):
        raise DatasetError(_refusal(problems, len(good)))
    score = functools.partial(score_pair, classes=classes, rules=rules, hd95=hd95)
    scored = in_processes(score, good, "scoring", workers)
    return ScoredFolders(
        rows=[row for rows, _ in scored for row in rows],
        skipped=[{"case": case, "reason": reason} for case, reason in sorted(problems.items())],
        enhancing=enhancing,
        false_positives={pair.case: false for pair, (_, false) in zip(good, scored, strict=True)},
    )


def evaluate_folders(
    predictions: Path,
    references: Path,
    out: Path,
    rules: Rules = "2020",
    hd95: Definition = "brats",
    skip_bad: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """`score_folders`, written into `out` and printed.

    Returns:
        The summary, see `workflows.evaluation.output_files`.
    Raises:
        ConfigurationError: if `out` lies in one of the two folders, or holds scores that somebody else wrote.
    """
    check_outputs([out / name for name in SCORE_FILES], [predictions, references])
    scored = score_folders(predictions, references, rules, hd95, skip_bad, workers)
    source = {
        "predictions": str(predictions.resolve()),
        "references": str(references.resolve()),
        **{
            f"enhancing_tumour_in_{side}s": "none in any file" if value is None else f"label {value}"
            for side, value in scored.enhancing.items()
        },
    }
    by_case = {case: asdict(counted) for case, counted in scored.false_positives.items()}
    sections, skipped = {"false_positives": {"as_given": by_case}}, scored.skipped
    return report_scores(scored.rows, out, rules=rules, hd95=hd95, source=source, skipped=skipped, sections=sections)


def match_cases(sides: Sides) -> tuple[list[Pair], dict[str, str]]:
    """The pairs, sorted by case, and the reason for each case that has no pair."""
    pairs, problems = [], {}
    for case in sorted(set().union(*(found.files for found in sides.values()))):
        files = {side: found.files.get(case, ()) for side, found in sides.items()}
        if wrong := [_miscounted(side, files[side], sides[side].folder) for side in sides if len(files[side]) != 1]:
            problems[case] = "; ".join(wrong)
        else:
            pairs.append(Pair(case, {side: file for side, (file,) in files.items()}))
    return pairs, problems


def _miscounted(side: str, files: Sequence[Path], folder: Path) -> str:
    if not files:
        return f"no {side} in {folder}"
    return f"{len(files)} label maps as {side}: {', '.join(str(file.relative_to(folder)) for file in files)}"


def check_pair(pair: Pair, classes: Classes) -> Pair:
    """The pair with its label values and its problem, from reading both label maps; raises nothing."""
    problems: list[str] = []
    images: dict[str, nib.Nifti1Image] = {}
    values: dict[str, tuple[float, ...]] = {}
    for side, file in pair.files.items():
        try:
            images[side] = load_image(file)
            if images[side].ndim != 3:
                raise DatasetError(f"{file}: has {images[side].ndim} axes; a label map has three.")
            values[side] = tuple(summarise_labels(read_voxels(images[side]), file).voxels)
        except DatasetError as error:
            problems.append(f"{side} {error}".removesuffix("."))
        else:
            problems += _wrong_values(side, values[side], classes[side])
    if len(values) == len(pair.files):
        try:
            problems += _wrong_grids(on_common_grid(images, pair.files))
        except DatasetError as error:
            problems.append(str(error).removesuffix("."))
    return replace(pair, values=values, problem="; ".join(problems))


def _wrong_values(side: str, values: Sequence[float], classes: Mapping[int, int]) -> list[str]:
    if strange := sorted(set(values) - set(classes)):
        known = ", ".join(str(value) for value in sorted(classes))
        return [f"the {side} holds label {', '.join(f'{value:g}' for value in strange[:5])}; known are {known}"]
    if set(ENHANCING_VALUES) <= set(values):
        return [f"the {side} holds the labels 3 and 4; enhancing tumour is one of them"]
    return []


def _wrong_grids(images: Mapping[str, nib.Nifti1Image]) -> list[str]:
    prediction, reference = images[PREDICTION], images[REFERENCE]
    if prediction.shape != reference.shape:
        voxels = f"{format_shape(prediction.shape)} voxels, the reference {format_shape(reference.shape)}"
        return [f"the prediction has {voxels}"]
    for side, image in images.items():
        if not describes_a_volume(image.affine):
            return [f"the {side}'s affine does not describe a volume"]
    if same_place(prediction.affine, reference.affine):
        return []
    return [f"different affines: {'; '.join(_placed(side, image) for side, image in images.items())}"]


def _placed(side: str, image: nib.Nifti1Image) -> str:
    axes = "".join(nib.orientations.aff2axcodes(image.affine))
    origin = ", ".join(f"{place:g}" for place in image.affine[:3, 3] + 0.0)  # -0.0 reads oddly
    unstated = not int(image.header["sform_code"]) and not int(image.header["qform_code"])
    return f"the {side}'s axes run {axes} from ({origin}) mm{', its header states no orientation' if unstated else ''}"


def decide_value(checked: Sequence[Pair], side: str) -> tuple[int | None, dict[str, str]]:
    """The value of enhancing tumour on one side, and the reason against the fewer cases that hold the other value."""
    holders = {value: [pair.case for pair in checked if value in pair.values[side]] for value in ENHANCING_VALUES}
    value, other = sorted(ENHANCING_VALUES, key=lambda value: len(holders[value]), reverse=True)
    if not holders[value]:
        return None, {}
    reason = f"the {side} holds enhancing tumour as {other}, {len(holders[value])} others hold it as {value}"
    return value, dict.fromkeys(holders[other], reason)


def _refusal(problems: Mapping[str, str], good: int) -> str:
    count = f"{len(problems)} of {len(problems) + good} cases cannot be scored"
    way_out = f"; --skip-bad scores the other {good}" if good else ""
    return "\n".join([f"{count}{way_out}:", *(f"{case}: {reason}." for case, reason in sorted(problems.items()))])


def score_pair(
    pair: Pair, classes: Classes, rules: Rules, hd95: Definition
) -> tuple[list[dict[str, Any]], FalsePositives]:
    """The rows of one checked pair, and its false positives."""
    images = on_common_grid({side: load_image(file) for side, file in pair.files.items()}, pair.files)
    label_maps = {side: as_classes(read_voxels(image), classes[side]) for side, image in images.items()}
    both, affine = (label_maps[PREDICTION], label_maps[REFERENCE]), images[REFERENCE].affine
    spacing_mm = [float(edge) for edge in nib.affines.voxel_sizes(affine)]
    return rows_of_case(pair.case, *both, spacing_mm, rules, hd95), false_positives(*both, affine, STUDY_WINDOW)
