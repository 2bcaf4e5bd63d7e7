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

from transforms.windows import STUDY_WINDOW
from workflows.data.label_conventions import summarise_labels
from workflows.evaluation.conventions_of_sides import PREDICTION, REFERENCE, Meaning, decide_sides
from workflows.evaluation.exchanged_classes import confusion, exchanged
from workflows.evaluation.find_label_maps import LabelMapFolder, find_label_maps
from workflows.evaluation.output_files import SCORE_FILES, report_scores
from workflows.files.outputs import check_outputs
from workflows.image_files.nifti_files import is_own_map, load_image, read_voxels
from workflows.image_files.oriented import as_classes, turned_like
from workflows.image_files.segments import on_common_grid
from workflows.image_files.two_maps import of_one_affine, why_apart
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
    predictions: LabelMapFolder | Path,
    references: LabelMapFolder | Path,
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
    sides = {PREDICTION: _found(predictions), REFERENCE: _found(references)}
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
    predictions: LabelMapFolder | Path,
    references: LabelMapFolder | Path,
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
    predictions, references = _found(predictions), _found(references)
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


def _found(folder: LabelMapFolder | Path) -> LabelMapFolder:
    return folder if isinstance(folder, LabelMapFolder) else find_label_maps(folder)


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
            problems.append(why_apart(_on_common_grid(images, pair)))
        except DatasetError as error:
            problems.append(str(error).removesuffix("."))
    ours = tuple(side for side, file in pair.files.items() if is_own_map(file))
    return replace(pair, values=values, ours=ours, problem="; ".join(filter(None, problems)))


def _on_common_grid(images: Mapping[str, nib.Nifti1Image], pair: Pair) -> Mapping[str, nib.Nifti1Image]:
    common = on_common_grid(images, pair.files)
    return of_one_affine(common) if pair.ignore_affine else common


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
    images = _on_common_grid({side: load_image(file) for side, file in pair.files.items()}, pair)
    along_one = {side: turned_like(image, images[REFERENCE]) for side, image in images.items()}
    label_maps = {side: as_classes(read_voxels(image), classes[side]) for side, image in along_one.items()}
    both, affine = (label_maps[PREDICTION], label_maps[REFERENCE]), images[REFERENCE].affine
    spacing_mm = [float(edge) for edge in nib.affines.voxel_sizes(affine)]
    rows = rows_of_case(pair.case, *both, spacing_mm, rules, hd95)
    return rows, false_positives(*both, affine, STUDY_WINDOW), confusion(*both)
