"""Two folders of label maps from any program: matched by case, checked, scored."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from transforms.files import WRITTEN_BY
from transforms.geometry import same_place
from transforms.windows import STUDY_WINDOW
from workflows.data.label_conventions import summarise_labels
from workflows.evaluation.conventions_of_sides import PREDICTION, REFERENCE, Meaning, decide_sides
from workflows.evaluation.exchanged_classes import confusion, exchanged
from workflows.evaluation.find_label_maps import LabelMapFolder
from workflows.evaluation.output_files import SCORE_FILES, report_scores
from workflows.files.outputs import check_outputs
from workflows.image_files.nifti_files import describes_a_volume, format_shape, load_image, read_voxels
from workflows.image_files.oriented import as_classes, turned_like
from workflows.image_files.segments import on_common_grid
from workflows.machine.processes import in_processes
from workflows.messages.errors import DatasetError
from workflows.scoring.false_positives import FalsePositives, false_positives
from workflows.scoring.per_case_csv import rows_of_case
from workflows.scoring.score_case import Rules
from workflows.scoring.surface_distances import Definition

Sides = Mapping[str, LabelMapFolder]


@dataclass(frozen=True)
class Pair:
    """The two label maps of one case.

    Attributes:
        files: by side.
        values: the label values by side, once `check_pair` has read them.
        ours: the sides whose file this project wrote, once `check_pair` has read them.
        ignore_affine: the voxels of both files are in one order, whatever their affines say.
        problem: why the pair cannot be scored; empty if it can.
    """

    case: str
    files: Mapping[str, Path]
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    ours: tuple[str, ...] = ()
    ignore_affine: bool = False
    problem: str = ""


@dataclass(frozen=True)
class ScoredFolders:
    """The scores of two folders.

    Attributes:
        rows: see `workflows.scoring.per_case_csv`.
        skipped: {"case", "reason"} of each case left out.
        meanings: of the label values, by side.
        false_positives: by case.
        warning: that two classes seem exchanged; empty if they do not.
    """

    rows: list[dict[str, Any]]
    skipped: list[dict[str, str]]
    meanings: dict[str, Meaning]
    false_positives: dict[str, FalsePositives]
    warning: str


def score_folders(
    predictions: LabelMapFolder,
    references: LabelMapFolder,
    rules: Rules = "2020",
    hd95: Definition = "brats",
    skip_bad: bool = False,
    workers: int | None = None,
) -> ScoredFolders:
    """Score the label maps of one folder against those of another; all are checked before any is scored.

    Args:
        skip_bad: leave out the cases that cannot be scored instead of refusing all.
    Raises:
        DatasetError: with one line for each case that cannot be scored, or if none can, or if it cannot be told what
            the labels mean.
    """
    sides = {PREDICTION: predictions, REFERENCE: references}
    pairs, problems = match_cases(sides)
    checked = in_processes(check_pair, pairs, "checking", workers)
    problems |= {pair.case: pair.problem for pair in checked if pair.problem}
    sound = {side: {pair.case: pair.values[side] for pair in checked if not pair.problem} for side in sides}
    ours = {side for side in sides if all(side in pair.ours for pair in checked if not pair.problem)}
    meanings, wrong = decide_sides(sides, sound, ours)
    problems |= wrong
    good = [pair for pair in checked if pair.case not in problems]
    if problems and not (skip_bad and good):
        raise DatasetError(_refusal(problems, len(good)))
    classes = {side: meaning.convention.classes for side, meaning in meanings.items()}
    score = functools.partial(score_pair, classes=classes, rules=rules, hd95=hd95)
    scored = in_processes(score, good, "scoring", workers)
    warning = exchanged([counts for _, _, counts in scored])
    if warning and (unsure := [side for side, meaning in meanings.items() if meaning.doubt]):
        side = unsure[0]
        raise DatasetError(
            f"{sides[side].folder}: {warning}, so what the labels mean is in doubt; {meanings[side].doubt}"
        )
    return ScoredFolders(
        rows=[row for rows, _, _ in scored for row in rows],
        skipped=[{"case": case, "reason": reason} for case, reason in sorted(problems.items())],
        meanings=meanings,
        false_positives={pair.case: false for pair, (_, false, _) in zip(good, scored, strict=True)},
        warning=warning,
    )


def evaluate_folders(
    predictions: LabelMapFolder,
    references: LabelMapFolder,
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
    check_outputs([out / name for name in SCORE_FILES], [predictions.folder, references.folder])
    scored = score_folders(predictions, references, rules, hd95, skip_bad, workers)
    source = {
        "predictions": str(predictions.folder.resolve()),
        "references": str(references.folder.resolve()),
        **{f"enhancing_tumour_in_{side}s": meaning.enhancing for side, meaning in scored.meanings.items()},
        **{f"labels_of_{side}s": str(meaning.convention) for side, meaning in scored.meanings.items()},
    }
    by_case = {case: asdict(counted) for case, counted in scored.false_positives.items()}
    sections, skipped = {"false_positives": {"as_given": by_case}}, scored.skipped
    summary = report_scores(scored.rows, out, rules=rules, hd95=hd95, source=source, skipped=skipped, sections=sections)
    if scored.warning:
        print(f"warning: {scored.warning}; do both sides mean the same by their labels?", file=sys.stderr)
    return summary


def match_cases(sides: Sides) -> tuple[list[Pair], dict[str, str]]:
    """The pairs, sorted by case, and the reason for each case that has no pair."""
    pairs, problems = [], {}
    for case in sorted(set().union(*(found.files for found in sides.values()))):
        files = {side: found.files.get(case, ()) for side, found in sides.items()}
        if wrong := [_miscounted(side, files[side], sides[side].folder) for side in sides if len(files[side]) != 1]:
            problems[case] = "; ".join(wrong)
        else:
            ignore = sides[PREDICTION].ignore_affine
            pairs.append(Pair(case, {side: file for side, (file,) in files.items()}, ignore_affine=ignore))
    return pairs, problems


def _miscounted(side: str, files: Sequence[Path], folder: Path) -> str:
    if not files:
        return f"no {side} in {folder}"
    return f"{len(files)} label maps as {side}: {', '.join(str(file.relative_to(folder)) for file in files)}"


def check_pair(pair: Pair) -> Pair:
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
    if len(values) == len(pair.files):
        try:
            problems += _wrong_grids(on_common_grid(images, pair.files), pair.ignore_affine)
        except DatasetError as error:
            problems.append(str(error).removesuffix("."))
    ours = tuple(
        side for side, image in images.items() if image.header["descrip"].item().startswith(WRITTEN_BY.encode())
    )
    return replace(pair, values=values, ours=ours, problem="; ".join(problems))


def _wrong_grids(images: Mapping[str, nib.Nifti1Image], ignore_affine: bool) -> list[str]:
    for side, image in images.items():
        if not describes_a_volume(image.affine):
            return [f"the {side}'s affine does not describe a volume"]
    prediction, reference = _along_one_grid(images, ignore_affine), images[REFERENCE]
    if prediction.shape != reference.shape:
        voxels = f"{format_shape(prediction.shape)} voxels, the reference {format_shape(reference.shape)}"
        return [f"the prediction has {voxels}"]
    if same_place(prediction.affine, reference.affine):
        return []
    problem = f"different affines: {'; '.join(_placed(side, image) for side, image in images.items())}"
    if images[PREDICTION].shape != reference.shape:
        return [problem]
    mute = [side for side, image in images.items() if np.array_equal(image.affine, np.eye(4))]
    if len(mute) == 1:
        way_out = "if the voxels of both are in one order, say so by --ignore-affine"
        problem += f"; the {mute[0]}'s is an identity matrix, which says nothing; {way_out}"
    return [problem]


def _along_one_grid(images: Mapping[str, nib.Nifti1Image], ignore_affine: bool) -> nib.Nifti1Image:
    """The prediction with its voxels in the order of the reference's."""
    prediction, reference = images[PREDICTION], images[REFERENCE]
    if ignore_affine:
        return nib.Nifti1Image(prediction.dataobj, reference.affine, prediction.header)
    return turned_like(prediction, reference)


def _placed(side: str, image: nib.Nifti1Image) -> str:
    axes = "".join(nib.orientations.aff2axcodes(image.affine))
    origin = ", ".join(f"{place:g}" for place in image.affine[:3, 3] + 0.0)  # -0.0 reads oddly
    unstated = not int(image.header["sform_code"]) and not int(image.header["qform_code"])
    return f"the {side}'s axes run {axes} from ({origin}) mm{', its header states no orientation' if unstated else ''}"


def _refusal(problems: Mapping[str, str], good: int) -> str:
    count = f"{len(problems)} of {len(problems) + good} cases cannot be scored"
    way_out = f"; --skip-bad scores the other {good}" if good else ""
    return "\n".join([f"{count}{way_out}:", *(f"{case}: {reason}." for case, reason in sorted(problems.items()))])


def score_pair(
    pair: Pair, classes: Mapping[str, Mapping[int, int]], rules: Rules, hd95: Definition
) -> tuple[list[dict[str, Any]], FalsePositives, NDArray[np.int64]]:
    """The rows of one checked pair, its false positives, and which classes were taken for which.

    Args:
        classes: class index by value, by side.
    """
    images = on_common_grid({side: load_image(file) for side, file in pair.files.items()}, pair.files)
    images[PREDICTION] = _along_one_grid(images, pair.ignore_affine)
    label_maps = {side: as_classes(read_voxels(image), classes[side]) for side, image in images.items()}
    both, affine = (label_maps[PREDICTION], label_maps[REFERENCE]), images[REFERENCE].affine
    spacing_mm = [float(edge) for edge in nib.affines.voxel_sizes(affine)]
    rows = rows_of_case(pair.case, *both, spacing_mm, rules, hd95)
    return rows, false_positives(*both, affine, STUDY_WINDOW), confusion(*both)
