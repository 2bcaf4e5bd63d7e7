"""Which files make one case: by the id in their names, or by the folder that they lie in."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transforms.labels import SEGMENTATION_SUFFIX
from workflows.data.file_names import SESSION_FOLDER, NamedFile, is_numbering, is_part_of_case
from workflows.image_files.nifti_files import is_own_map

_ONLY_MAPS = {SEGMENTATION_SUFFIX}


@dataclass
class CaseFiles:
    """The files of one case, before one of each kind is chosen.

    Attributes:
        folder: the case's own; several cases of a flat data set share one.
        files: by kind.
    """

    case_id: str
    folder: Path
    files: dict[str, list[tuple[Path, NamedFile]]] = field(default_factory=lambda: defaultdict(list))


def group_by_case(files: Iterable[Path], root: Path) -> list[CaseFiles]:
    """Group the files whose names say what they are; a group may lack images or a segmentation."""
    by_folder: dict[Path, list[tuple[Path, NamedFile]]] = defaultdict(list)
    for file in files:
        if named := NamedFile.read(file.name):
            by_folder[_case_folder(file.parent, root)].append((file, named))
    groups: list[CaseFiles] = []
    for folder, found in by_folder.items():
        groups += _in_one_folder(folder, found, root)
    return _told_apart(_joined(groups), root)


def _case_folder(folder: Path, root: Path) -> Path:
    """The folder, or that above it where it holds a part of a case only (anat, 4_FLAIR)."""
    while folder != root and is_part_of_case(folder.name):
        folder = folder.parent
    return folder


def _in_one_folder(folder: Path, found: Sequence[tuple[Path, NamedFile]], root: Path) -> list[CaseFiles]:
    of_images = {named.case for _, named in found if named.case and named.kind != SEGMENTATION_SUFFIX}
    found = [(file, named.of_case(file.name, of_images)) for file, named in found]
    ids = {named.case for _, named in found}
    each_kind_once = len({named.kind for _, named in found}) == len(found)
    numbered = all(is_numbering(case) for case in ids if case)
    # P1/4_FLAIR.nii, or P1/ax_flair.nii beside P1/post_t1ce.nii: what stands before the modality names no case.
    words = len(found) > 2 and len(ids) == len(found)
    nameless = each_kind_once and len(ids) > 1 and (numbered or words)
    groups: dict[str, CaseFiles] = {}
    for file, named in found:
        case_id = "" if nameless else named.case
        case_id = case_id or folder_id(folder, root)
        groups.setdefault(case_id, CaseFiles(case_id, folder)).files[named.kind].append((file, named))
    return list(groups.values())


def folder_id(folder: Path, root: Path) -> str:
    """A case's id from its folder; that of an examination has its patient's before it: Patient-001_week-000."""
    path = folder.resolve() if folder == root else folder
    names, above = [path.name], path.parent
    while SESSION_FOLDER.fullmatch(names[0]) and above.resolve() != root.resolve() and folder != root:
        names.insert(0, above.name)
        above = above.parent
    if SESSION_FOLDER.fullmatch(names[0]) and not names[0].isdigit():  # numbers may be those of patients
        names.insert(0, above.resolve().name)
    return "_".join(names)


def _joined(groups: Sequence[CaseFiles]) -> list[CaseFiles]:
    """Groups of one id that complete each other are one case: images_structural/P1 and images_segm/P1_segm.nii."""
    by_id: dict[str, list[CaseFiles]] = defaultdict(list)
    for group in sorted(groups, key=lambda group: (set(group.files) == _ONLY_MAPS, -len(group.files), group.folder)):
        fitting = [other for other in by_id[group.case_id] if not set(group.files) & set(other.files) - _ONLY_MAPS]
        if not fitting or (set(group.files) == _ONLY_MAPS and _written_here(group)):
            by_id[group.case_id].append(group)
            continue
        nearest = max(fitting, key=lambda other: shared_folders(other.folder, group.folder))
        for kind, found in group.files.items():
            nearest.files[kind] += found
    return [group for same in by_id.values() for group in same]


def _written_here(group: CaseFiles) -> bool:
    """Whether a prediction of this project lies there, which is no reference."""
    return any(is_own_map(file) for file, _ in group.files[SEGMENTATION_SUFFIX])


def shared_folders(one: Path, other: Path) -> int:
    """How many folders, from the root on, two paths share."""
    return len(Path(os.path.commonpath([one, other])).parts)


def _told_apart(groups: list[CaseFiles], root: Path) -> list[CaseFiles]:
    """Cases of one id take their folders' names where these differ: P1/scan_flair.nii and P2/scan_flair.nii."""
    by_id: dict[str, list[CaseFiles]] = defaultdict(list)
    for group in groups:
        by_id[group.case_id].append(group)
    for case_id, same in by_id.items():
        ids = [folder_id(group.folder, root) for group in same]
        if len(same) > 1 and len(set(ids)) == len(same) and not any(case_id in name for name in ids):
            for group, name in zip(same, ids, strict=True):
                group.case_id = name
    return groups
