"""The label maps in a folder, by case, from any program."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workflows.data.file_names import DECATHLON_FILE, IMAGE_STEM, LABEL_MAP_STEM, NIFTI_NAME, PROBABILITIES_STEM
from workflows.data.find_cases import find_cases, walk_files
from workflows.data.label_conventions import LabelConvention
from workflows.messages.errors import DatasetError, not_a_folder


@dataclass(frozen=True)
class LabelMapFolder:
    """What a folder holds.

    Attributes:
        files: one label map by case, or several where that is a mistake to be reported.
        convention: what the label values mean where a `dataset.json` states it (Decathlon), else None.
    """

    folder: Path
    files: Mapping[str, tuple[Path, ...]]
    convention: LabelConvention | None = None


def find_label_maps(folder: Path) -> LabelMapFolder:
    """Every label map in `folder` or below it.

    A file is named after its case, with or without `_seg` and the like: `CASE_seg.nii.gz`, `CASE-seg.nii`,
    `CASE.nii.gz`, `CASE/seg.nii.gz`. A folder that holds images too is searched as a data folder is.

    Raises:
        DatasetError: if there is no such folder, or no label map in it.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: {not_a_folder(folder)}")
    files = [place / name for place, names, _ in walk_files(folder) for name in names if not name.startswith(".")]
    stems = {file: match["stem"] for file in files if (match := NIFTI_NAME.fullmatch(file.name))}
    names = {file.name for file in files}
    is_data_folder = DECATHLON_FILE in names or any(map(IMAGE_STEM.fullmatch, stems.values()))
    found = _in_data_folder(folder) if is_data_folder else LabelMapFolder(folder, _by_name(stems))
    if not found.files:
        raise DatasetError(f"{folder}: no label map found here or below; looked for CASE_seg.nii.gz and CASE.nii.gz.")
    return found


def _by_name(stems: Mapping[Path, str]) -> dict[str, tuple[Path, ...]]:
    files: dict[str, tuple[Path, ...]] = defaultdict(tuple)
    for file, stem in sorted(stems.items()):
        if not PROBABILITIES_STEM.fullmatch(stem):
            match = LABEL_MAP_STEM.fullmatch(stem)
            files[stem if match is None else match["case"] or file.resolve().parent.name] += (file,)
    return files


def _in_data_folder(folder: Path) -> LabelMapFolder:
    files: dict[str, tuple[Path, ...]] = defaultdict(tuple)
    conventions = set()
    for case in find_cases(folder).cases:
        if case.segmentation:
            files[case.id] += (case.segmentation,)
            conventions.add(case.convention)
    if len(conventions) > 1:
        raise DatasetError(f"{folder}: mixes label conventions; use one data set at a time.")
    return LabelMapFolder(folder, files, next(iter(conventions), None))
