"""The label maps in a folder, by case, from any program."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transforms.labels import SEGMENTATION_SUFFIX
from workflows.data.case import Case
from workflows.data.dataset_json import listed_cases, stated_convention
from workflows.data.file_names import DATASET_FILE, IMAGE_FILE, LABEL_MAP_STEM, PROBABILITIES_STEM, NamedFile
from workflows.data.find_cases import find_cases, walk_files
from workflows.data.label_conventions import LabelConvention
from workflows.messages.errors import DatasetError, not_a_folder


@dataclass(frozen=True)
class LabelMapFolder:
    """What a folder holds.

    Attributes:
        files: one label map by case, or several where that is a mistake to be reported.
        convention: what the label values mean where the user or a `dataset.json` states it, else None.
        cases: by id, with their images where the folder holds any.
        ignore_affine: their voxels are in the order of those on the other side, whatever the affines say.
    """

    folder: Path
    files: Mapping[str, tuple[Path, ...]]
    convention: LabelConvention | None
    cases: Mapping[str, Case]
    ignore_affine: bool = False


def find_label_maps(folder: Path, labels: LabelConvention | None = None, ignore_affine: bool = False) -> LabelMapFolder:
    """Every label map in `folder` or below it.

    A file is named after its case, with or without `_seg` and the like: `CASE_seg.nii.gz`, `CASE-seg.nii`,
    `CASE.nii.gz`, `CASE/seg.nii.gz`. A folder that holds images too is searched as a data folder is.

    Args:
        labels: what the values mean, whatever a `dataset.json` says.
        ignore_affine: see `LabelMapFolder`.
    Raises:
        DatasetError: if there is no such folder, or no label map in it, or they state different conventions.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: {not_a_folder(folder)}")
    files = [place / name for place, names, _ in walk_files(folder) for name in names if not name.startswith(".")]
    stems = {file: match["stem"] for file in files if (match := IMAGE_FILE.fullmatch(file.name))}
    lists = [file.parent for file in files if file.name == DATASET_FILE]
    if any(map(listed_cases, lists)) or any(map(_is_image, stems)):
        cases = [case for case in find_cases(folder).cases if case.segmentation]
    else:
        cases = [Case(case_id, file.parent, {}, file) for file, case_id in _by_name(stems)]
    maps: dict[str, tuple[Path, ...]] = defaultdict(tuple)
    for case in cases:
        maps[case.id] += (case.segmentation,) if case.segmentation else ()
    if not maps:
        raise DatasetError(f"{folder}: no label map found here or below; looked for CASE_seg.nii.gz and CASE.nii.gz.")
    stated = labels or _stated(folder, cases, lists)
    return LabelMapFolder(folder, maps, stated, {case.id: case for case in cases}, ignore_affine)


def _is_image(file: Path) -> bool:
    named = NamedFile.read(file.name)
    return named is not None and named.kind != SEGMENTATION_SUFFIX


def _by_name(stems: Mapping[Path, str]) -> list[tuple[Path, str]]:
    found = []
    for file, stem in sorted(stems.items()):
        if not PROBABILITIES_STEM.fullmatch(stem):
            match = LABEL_MAP_STEM.fullmatch(stem)
            found.append((file, stem if match is None else match["case"] or file.resolve().parent.name))
    return found


def _stated(folder: Path, cases: list[Case], lists: list[Path]) -> LabelConvention | None:
    """What `dataset.json` states: in the folder, as nnU-Net leaves it, or above one called labelsTr."""
    conventions = {case.convention for case in cases}
    if conventions == {None}:
        above = [folder.resolve().parent] if folder.resolve().name.lower().startswith("labels") else []
        conventions = {stated_convention(place) for place in lists or above} or {None}
    if len(conventions) > 1:
        raise DatasetError(f"{folder}: mixes label conventions; use one data set at a time.")
    return conventions.pop()
