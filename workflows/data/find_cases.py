"""Find the cases in a folder, however their files are named, packed or nested."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from transforms.labels import MODALITIES, SEGMENTATION_SUFFIX, STUDY_MODALITIES
from workflows.data.case import Case, FoundDataset
from workflows.data.dataset_json import listed_cases
from workflows.data.file_names import ALL_MASK_SUFFIXES, DATASET_FILE, IMAGE_FILE, NOT_TUMOUR, NamedFile, names_tried
from workflows.data.file_patterns import cases_by_pattern
from workflows.data.group_files import CaseFiles, group_by_case, shared_folders
from workflows.data.label_conventions import MaskContent, mask_content
from workflows.data.reading import BY_NAMES, Reading
from workflows.messages.errors import DatasetError, not_a_folder


def find_cases(
    root: Path | str,
    modalities: Sequence[str] = STUDY_MODALITIES,
    reading: Reading = BY_NAMES,
) -> FoundDataset:
    """Find every case in `root` or anywhere below it.

    Args:
        modalities: those that make a case complete; in a complete case a segmentation under another name is accepted.
        reading: what the user says of names and labels; it goes before everything that the folder says.
    Raises:
        DatasetError: if `root` is no folder or holds no case.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: {not_a_folder(root)}")
    closed: dict[Path, str] = {}
    walked = list(walk_files(root, closed))
    there = [folder / name for folder, names, _ in walked for name in names]
    if reading.patterns:
        cases, lists = cases_by_pattern(reading.patterns, there, root), set[Path | None]()
    else:
        cases, lists = _listed(walked)
        taken = lists.union(*(_files_of(case) for case in cases))
        cases += _named([file for file in there if file not in taken], root, modalities)
    used = lists.union(*(_files_of(case) for case in cases))
    stray = tuple(sorted({*there, *(file for _, _, skipped in walked for file in skipped)} - used))
    if not cases:
        for folder, reason in closed.items():
            raise DatasetError(f"{folder}: {reason}")
        raise DatasetError(_nothing_found(root, stray))
    if reading.convention:
        cases = [replace(case, convention=reading.convention) for case in cases]
    return FoundDataset(root, tuple(sorted(cases, key=lambda case: (case.id, case.folder))), stray, closed=closed)


def walk_files(root: Path, closed: dict[Path, str] | None = None) -> Iterator[tuple[Path, list[str], list[Path]]]:
    """Every folder with its file names and the folders not entered: hidden ones and what macOS adds to a zip.

    Args:
        closed: receives the folders that could not be read, with the reason.
    """

    def note(error: OSError) -> None:
        if closed is not None:
            reason = f"this folder cannot be read ({error.strerror}); ask its owner for the right to."
            closed[Path(error.filename)] = reason

    entered = set()  # a link to a folder above would be walked for ever
    for name, folders, files in os.walk(root, followlinks=True, onerror=note):
        real = os.path.realpath(name)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        skipped = sorted(sub for sub in folders if sub.startswith(".") or sub == "__MACOSX")
        folders[:] = sorted(set(folders) - set(skipped))
        yield Path(name), sorted(files), [Path(name, sub) for sub in skipped]


def _files_of(case: Case) -> set[Path | None]:
    return {*case.images.values(), case.segmentation, case.four_d}


def _listed(walked: Sequence[tuple[Path, list[str], list[Path]]]) -> tuple[list[Case], set[Path | None]]:
    """The cases that files called dataset.json list, and these files."""
    cases: list[Case] = []
    lists: set[Path | None] = set()
    for folder, names, _ in walked:
        if DATASET_FILE in names and (listed := listed_cases(folder)) is not None:
            cases += listed
            lists.add(folder / DATASET_FILE)
    return cases, lists


def _named(files: Sequence[Path], root: Path, modalities: Sequence[str]) -> list[Case]:
    """The cases that the names of files and folders tell."""
    groups = group_by_case(files, root)
    with_images = [group for group in groups if set(group.files) & set(MODALITIES)]
    groups_in, look_alikes_in = defaultdict(list), defaultdict(list)
    for group in groups:
        groups_in[group.folder].append(group)
    for file in filter(_is_look_alike, files):
        look_alikes_in[file.parent].append(file)
    for group in with_images:
        if SEGMENTATION_SUFFIX not in group.files and set(modalities) <= set(group.files):
            others = [other for other in groups_in[group.folder] if other is not group]
            _adopt_segmentation(group, others, look_alikes_in[group.folder])
    accepted = _accepted_masks(with_images)
    return [_case(group, accepted) for group in with_images]


def _adopt_segmentation(group: CaseFiles, others: Sequence[CaseFiles], look_alikes: Sequence[Path]) -> None:
    """Give a case the one segmentation under another name in its folder, if no other case lies there.

    Args:
        others: the other groups in the folder.
        look_alikes: the files there whose names only resemble that of a segmentation.
    """
    if any(set(other.files) != {SEGMENTATION_SUFFIX} for other in others):
        return  # nothing tells whose it would be
    found = [file for other in others for file, _ in other.files[SEGMENTATION_SUFFIX]] + list(look_alikes)
    if len(found) == 1:  # what it holds decides
        group.files[SEGMENTATION_SUFFIX] = [(found[0], NamedFile(SEGMENTATION_SUFFIX, "", 0, 0, False, found[0].name))]


def _is_look_alike(file: Path) -> bool:
    match = IMAGE_FILE.fullmatch(file.name)
    if match is None or file.name.startswith(".") or NamedFile.read(file.name):
        return False
    stem = match["stem"].lower()
    ends = [suffix for suffix in ALL_MASK_SUFFIXES if stem.endswith(suffix)]
    before = stem.removesuffix(max(ends, key=len, default="")).rstrip("_.-")
    return "seg" in stem and not NOT_TUMOUR.search(before)


def _accepted_masks(groups: Sequence[CaseFiles]) -> dict[Path, bool]:
    """Whether each file that may be a mask of something else is a tumour segmentation, by its content.

    A map of one label is one if others of the same name in the data set hold several: not every patient has every
    class.
    """
    unsure = [
        pair
        for group in groups
        for pair in group.files.get(SEGMENTATION_SUFFIX, ())
        if not any(named.sure for _, named in group.files[SEGMENTATION_SUFFIX])
    ]
    content = {file: mask_content(file) for file, _ in unsure}
    proven = {named.suffix for file, named in unsure if content[file] is MaskContent.classes}
    return {
        file: content[file] is MaskContent.classes or (content[file] is MaskContent.one and named.suffix in proven)
        for file, named in unsure
    }


def _case(group: CaseFiles, accepted: Mapping[Path, bool]) -> Case:
    notes: list[str] = []
    segmentation = _segmentation(group, accepted, notes)
    images: dict[str, Path] = {}
    for modality in MODALITIES:
        if modality in group.files:
            nearest = segmentation or group.folder
            found = sorted(
                group.files[modality],
                key=lambda pair: (-shared_folders(pair[0], nearest), pair[1].rank, pair[1].packing, pair[0]),
            )
            images[modality] = found[0][0]
            _note_others(modality, [file for file, _ in found], notes)
    return Case(group.case_id, group.folder, images, segmentation, tuple(notes))


def _segmentation(group: CaseFiles, accepted: Mapping[Path, bool], notes: list[str]) -> Path | None:
    found = group.files.get(SEGMENTATION_SUFFIX, [])
    refused = [file for file, named in found if not accepted.get(file, named.sure)]
    good = sorted(
        (pair for pair in found if pair[0] not in refused),
        key=lambda pair: (pair[1].rank, -shared_folders(pair[0], group.folder), pair[1].packing, pair[0]),
    )
    if refused and not good:
        named = ", ".join(file.name for file in refused)
        notes.append(f"no segmentation: {named} holds one label, or others than those of a tumour")
    if not good:
        return None
    chosen, named_file = good[0]
    if named_file.suffix == chosen.name:
        notes.append(f"the segmentation has another name: {chosen.name}")
    _note_others(SEGMENTATION_SUFFIX, [file for file, _ in good], notes)
    return chosen


def _note_others(kind: str, found: Sequence[Path], notes: list[str]) -> None:
    if len(found) > 1:
        above = Path(os.path.commonpath([file.parent for file in found]))
        names = [file.relative_to(above).as_posix() for file in found]
        notes.append(f"{kind} is there {len(found)} times: {names[0]} is used, {', '.join(names[1:])} ignored")


def _nothing_found(root: Path, stray: Collection[Path]) -> str:
    tried = f"{names_tried('flair')}, {names_tried('t1ce')} and so on, and a {DATASET_FILE} of the Decathlon or nnU-Net"
    there = f"; there are {len(stray)} other files, {min(stray).name} for one" if stray else "; the folder is empty"
    return f"{root}: no case found here or below; looked for {tried}{there}; name others by  --files."
