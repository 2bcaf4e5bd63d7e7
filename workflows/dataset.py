"""Find the cases in a folder and read their images, however these are named, packed or labelled."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from transforms.labels import (
    BACKGROUND,
    CLASS_NAMES,
    ENHANCING,
    ENHANCING_IN_FILES_FROM_2023,
    ENHANCING_IN_FILES_TO_2022,
    MODALITIES,
    MODALITY_SUFFIXES,
    NECROTIC_CORE,
    OEDEMA,
    SEGMENTATION_SUFFIX,
    STUDY_MODALITIES,
)
from workflows.errors import ConfigurationError, DatasetError
from workflows.progress import track

EXTENSIONS = (".nii", ".nii.gz", ".nii.gz.gz")
"""In order of preference where a folder holds one image twice: the least packed is read fastest."""

DATALIST_LABEL = "label"
DECATHLON_FILE = "dataset.json"
MAX_VOXELS = 2**28  # 2 GiB as float64; a four-channel BraTS case has 2**25
MAX_LABEL_VALUES = 256
MAX_VOXEL_OFFSET_BYTES = 2**24

_MODALITY_OF = {suffix: modality for modality, suffixes in MODALITY_SUFFIXES.items() for suffix in suffixes}
_NIFTI_NAME = re.compile(r"(?P<stem>.+?)(?P<extension>\.nii(?:\.gz){0,2})", re.IGNORECASE)
_CASE_FILE = re.compile(
    rf"(?:(?P<id>.+)[_-])?(?P<suffix>{'|'.join([*_MODALITY_OF, SEGMENTATION_SUFFIX])})"
    r"(?P<extension>\.nii(?:\.gz){0,2})",
    re.IGNORECASE,
)
_NAMED_AS_FROM_2023 = re.compile(r"-(?:t1n|t1c|t2w|t2f)\.nii", re.IGNORECASE)
_CHANNEL = re.compile(r"(?P<file>.+\.nii(?:\.gz){0,2})#(?P<channel>\d)", re.IGNORECASE)
_TIME_POINT = re.compile(r"(?P<patient>BraTS-[A-Za-z]+-\d+)-\d{3}")


# ---------------------------------------------------------------------------------------------------------------------
# What the numbers in a label file mean


@dataclass(frozen=True)
class LabelConvention:
    """What the values in the label files of one data set mean.

    Args:
        name: under which datalists refer to it.
        classes: class index by value in the file, background included.
    """

    name: str
    title: str
    classes: Mapping[int, int] = field(hash=False)

    def class_name(self, value: int) -> str:
        """The class that `value` stands for in these files."""
        return CLASS_NAMES[self.classes[value]]


BRATS_TO_2022 = LabelConvention(
    "brats-to-2022",
    "BraTS up to 2022, enhancing tumour is 4",
    {0: BACKGROUND, 1: NECROTIC_CORE, 2: OEDEMA, ENHANCING_IN_FILES_TO_2022: ENHANCING},
)
BRATS_FROM_2023 = LabelConvention(
    "brats-from-2023",
    "BraTS from 2023 on, enhancing tumour is 3",
    {0: BACKGROUND, 1: NECROTIC_CORE, 2: OEDEMA, ENHANCING_IN_FILES_FROM_2023: ENHANCING},
)
DECATHLON = LabelConvention(
    "decathlon",
    "Medical Segmentation Decathlon, oedema is 1, non-enhancing tumour 2, enhancing tumour 3",
    {0: BACKGROUND, 1: OEDEMA, 2: NECROTIC_CORE, 3: ENHANCING},
)
LABEL_CONVENTIONS = {convention.name: convention for convention in (BRATS_TO_2022, BRATS_FROM_2023, DECATHLON)}


# ---------------------------------------------------------------------------------------------------------------------
# Cases


@dataclass(frozen=True)
class Case:
    """One examination of one patient.

    Args:
        images: 3D file by modality, only those present; empty where `four_d` holds them all.
        notes: what was unusual about its files, in words for the user.
        four_d: one file with all modalities along its last axis (Decathlon).
        channels: modality of each of the channels of `four_d`.
        convention: what the label values mean where the data set states it (Decathlon), else None.
    """

    id: str
    folder: Path
    images: dict[str, Path] = field(hash=False)
    segmentation: Path | None = None
    notes: tuple[str, ...] = ()
    four_d: Path | None = None
    channels: tuple[str, ...] = ()
    convention: LabelConvention | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities present, in the order of `labels.MODALITIES`."""
        present = self.channels if self.four_d else self.images
        return tuple(modality for modality in MODALITIES if modality in present)

    @property
    def patient(self) -> str:
        """The id without the time point that BraTS appends from 2023 on (BraTS-GLI-00005-001)."""
        match = _TIME_POINT.fullmatch(self.id)
        return match["patient"] if match else self.id

    def source(self, modality: str) -> Path:
        """The file of one modality, as `load_image` takes it: `…/BRATS_001.nii.gz#2` is channel 2 of a 4D file.

        Raises:
            DatasetError: if the case lacks it.
        """
        if self.four_d and modality in self.channels:
            return self.four_d.with_name(f"{self.four_d.name}#{self.channels.index(modality)}")
        if modality in self.images:
            return self.images[modality]
        raise DatasetError(f"{self.id}: no {modality.upper()} image in {self.folder}; looked for {_tried(modality)}.")


@dataclass(frozen=True)
class FoundDataset:
    """What lies below a data folder.

    Args:
        cases: sorted by id.
        stray: files, and folders not entered, that belong to no case.
        convention: what the label values mean; None until `with_convention` has read the label maps.
    """

    root: Path
    cases: tuple[Case, ...]
    stray: tuple[Path, ...] = ()
    convention: LabelConvention | None = None

    def with_convention(self) -> FoundDataset:
        """The same data set with its label convention decided, once for all its cases."""
        return self if self.convention else dataclasses.replace(self, convention=decide_label_convention(self.cases))


def find_cases(root: Path | str, modalities: Sequence[str] = STUDY_MODALITIES) -> FoundDataset:
    """Find every case in `root` or anywhere below it.

    Args:
        modalities: those that make a case complete; in a complete case a segmentation under another name is accepted.
    Raises:
        DatasetError: if `root` is no folder or holds no case.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder.")
    cases: list[Case] = []
    files: list[Path] = []
    decathlon_files: set[Path] = set()
    for folder, names, skipped in _walk(root):
        files += [folder / name for name in names] + skipped
        if DECATHLON_FILE in names and (listed := _decathlon_cases(folder)) is not None:
            cases += listed
            decathlon_files.add(folder / DECATHLON_FILE)
        else:
            cases += _cases_in_folder(folder, names, modalities)
    used = decathlon_files.union(*(_files_of(case) for case in cases))
    stray = tuple(sorted(file for file in files if file not in used))
    if not cases:
        raise DatasetError(_nothing_found(root, stray))
    return FoundDataset(root, tuple(sorted(cases, key=lambda case: (case.id, case.folder))), stray)


def load_entry(case: Case, modalities: Sequence[str], root: Path | str) -> dict[str, str]:
    """One datalist item: `{"case": id, "flair": path, "t1ce": path, "label": path}`, paths relative to `root`.

    A channel of a 4D file reads `path#channel`, so that every kind of case is loaded by the same keys.
    `label` is left out where there is no segmentation.
    """
    entry = {"case": case.id}
    entry |= {modality: case.source(modality).relative_to(root).as_posix() for modality in modalities}
    if case.segmentation:
        entry[DATALIST_LABEL] = case.segmentation.relative_to(root).as_posix()
    return entry


def write_json(content: Any, path: Path | str) -> None:
    """Write `content` as JSON, whole or not at all: readers never see half a file.

    Raises:
        ConfigurationError: if the folder cannot be written to.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror or error}).") from error


def safe_relative_path(text: object, source: object) -> PurePosixPath:
    """`text` as a path below a data folder; what is absolute or climbs out with `..` is refused.

    Links inside the folder are followed: its owner made them, and git-annex consists of them.

    Args:
        source: where `text` stands, for the message.
    """
    if not isinstance(text, str) or not text or "\0" in text:
        raise DatasetError(f"{source}: {text!r} is not a path.")
    as_on_windows = PureWindowsPath(text)  # knows both separators and drives
    if as_on_windows.anchor or as_on_windows.drive or ".." in as_on_windows.parts:
        raise DatasetError(f"{source}: the path {text!r} leaves the data folder; give paths relative to it.")
    return PurePosixPath(text)


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[Path]]]:
    """Every folder with its file names and the folders not entered: hidden ones and what macOS adds to a zip."""
    entered = set()  # a link to a folder above would be walked for ever
    for name, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(name)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        skipped = sorted(sub for sub in folders if sub.startswith(".") or sub == "__MACOSX")
        folders[:] = sorted(set(folders) - set(skipped))
        yield Path(name), sorted(files), [Path(name, sub) for sub in skipped]


def _cases_in_folder(folder: Path, names: Sequence[str], modalities: Sequence[str]) -> list[Case]:
    """The cases whose files lie directly in `folder`: usually one, in a flat copy all."""
    groups: dict[str, dict[str, list[str]]] = {}
    for name in sorted(names, key=_preference):
        match = _CASE_FILE.fullmatch(name)
        if match and not name.startswith("."):
            kind = _MODALITY_OF.get(match["suffix"].lower(), SEGMENTATION_SUFFIX)
            groups.setdefault(match["id"] or folder.resolve().name, {}).setdefault(kind, []).append(name)
    with_images = {case_id: kinds for case_id, kinds in groups.items() if set(kinds) & set(MODALITIES)}
    taken = {name for kinds in with_images.values() for same in kinds.values() for name in same}
    others = [name for name in names if name not in taken and not name.startswith(".")]
    if len(with_images) != 1:
        others = []  # nothing tells whose it would be
    return [_case(case_id, folder, kinds, modalities, others) for case_id, kinds in with_images.items()]


def _case(
    case_id: str, folder: Path, kinds: Mapping[str, Sequence[str]], modalities: Sequence[str], others: Sequence[str]
) -> Case:
    notes = [
        f"{kind} is there {len(same)} times: {same[0]} is used, {', '.join(same[1:])} ignored"
        for kind, same in kinds.items()
        if len(same) > 1
    ]
    images = {modality: folder / kinds[modality][0] for modality in MODALITIES if modality in kinds}
    segmentation = folder / kinds[SEGMENTATION_SUFFIX][0] if SEGMENTATION_SUFFIX in kinds else None
    look_alikes = [name for name in others if _NIFTI_NAME.fullmatch(name) and "seg" in name.lower()]
    if segmentation is None and len(look_alikes) == 1 and set(modalities) <= set(images):
        segmentation = folder / look_alikes[0]
        notes.append(f"the segmentation has another name: {look_alikes[0]}")
    return Case(case_id, folder, images, segmentation, tuple(notes))


def _preference(name: str) -> tuple[int, str]:
    match = _NIFTI_NAME.fullmatch(name)
    return (EXTENSIONS.index(match["extension"].lower()) if match else len(EXTENSIONS), name)


def _files_of(case: Case) -> set[Path]:
    return {file for file in (*case.images.values(), case.segmentation, case.four_d) if file}


def _tried(modality: str) -> str:
    to_2022, from_2023 = MODALITY_SUFFIXES[modality]
    return f"*_{to_2022}.nii and *-{from_2023}.nii (or .nii.gz, .nii.gz.gz)"


def _nothing_found(root: Path, stray: Sequence[Path]) -> str:
    tried = f"{_tried('flair')}, {_tried('t1ce')} and so on, and a Decathlon {DECATHLON_FILE}"
    there = f"; there are {len(stray)} other files, {stray[0].name} for one" if stray else "; the folder is empty"
    return f"{root}: no case found here or below; looked for {tried}{there}."


# ---------------------------------------------------------------------------------------------------------------------
# Medical Segmentation Decathlon


def _decathlon_cases(folder: Path) -> list[Case] | None:
    """The cases that `dataset.json` in `folder` lists; None if it is another kind of file."""
    source = folder / DECATHLON_FILE
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{source}: cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict) or not {"modality", "training"} <= content.keys():
        return None
    channels = _decathlon_channels(content["modality"], source)
    convention = _decathlon_convention(content.get("labels"), source)
    training, test = content["training"], content.get("test", [])
    if not isinstance(training, list) or not isinstance(test, list):
        raise DatasetError(f"{source}: 'training' and 'test' must be lists.")
    cases = []
    for item in [*training, *test]:
        entry = item if isinstance(item, dict) else {"image": item}
        image = folder / safe_relative_path(entry.get("image"), source)
        label = folder / safe_relative_path(entry["label"], source) if "label" in entry else None
        name = _NIFTI_NAME.fullmatch(image.name)
        case_id = name["stem"] if name else image.name
        cases.append(Case(case_id, image.parent, {}, label, (), image, channels, convention))
    return cases


def _decathlon_channels(stated: object, source: Path) -> tuple[str, ...]:
    """Modality of each channel, from for example `{"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}`."""
    names = {**_MODALITY_OF, "t1w": "t1", "t1gd": "t1ce"}
    try:
        ordered = [str(value).lower() for _, value in sorted(cast(dict, stated).items(), key=lambda pair: int(pair[0]))]
        return tuple(names[name] for name in ordered)
    except (AttributeError, KeyError, ValueError) as error:
        raise DatasetError(f"{source}: 'modality' must number FLAIR, T1w, T1gd and T2w, not {stated!r}.") from error


def _decathlon_convention(stated: object, source: Path) -> LabelConvention:
    """The convention that the `labels` entry describes, such as `{"1": "edema", "2": "non-enhancing tumor", …}`."""
    if stated is None:
        return DECATHLON
    try:
        classes = {int(value): _class_called(str(name)) for value, name in cast(dict, stated).items()}
    except (AttributeError, KeyError, ValueError) as error:
        raise DatasetError(f"{source}: 'labels' is not understood: {stated!r}.") from error
    for convention in (DECATHLON, BRATS_FROM_2023, BRATS_TO_2022):
        if convention.classes == {0: BACKGROUND, **classes}:
            return convention
    raise DatasetError(f"{source}: 'labels' is in an unknown order: {stated!r}.")


def _class_called(name: str) -> int:
    lower = name.lower()
    words = (("background", BACKGROUND), ("edema", OEDEMA), ("necro", NECROTIC_CORE), ("non-enh", NECROTIC_CORE))
    for word, index in (*words, ("nonenh", NECROTIC_CORE), ("enhanc", ENHANCING)):
        if word in lower:
            return index
    raise KeyError(name)


# ---------------------------------------------------------------------------------------------------------------------
# Which convention a data set follows


@dataclass(frozen=True)
class LabelSummary:
    """What one label map holds.

    Args:
        voxels: number of voxels by value in the file.
        digest: equal for equal tumours whatever the file's name, packing, type or value for enhancing tumour;
            None without tumour.
    """

    voxels: Mapping[float, int] = field(hash=False)
    digest: str | None


def decide_label_convention(cases: Iterable[Case], workers: int | None = None) -> LabelConvention:
    """Decide once for a data set whether enhancing tumour is 4 or 3, from its label maps.

    Raises:
        DatasetError: if both occur, or a label map cannot be read.
    """
    cases = tuple(cases)
    if all(case.convention for case in cases):
        return label_convention_of(dict.fromkeys(cases, ()))
    summaries = survey_labels(cases, workers)
    return label_convention_of({case: tuple(summaries[case].voxels) if case in summaries else () for case in cases})


def label_convention_of(values: Mapping[Case, Iterable[float]]) -> LabelConvention:
    """As `decide_label_convention`, from the label values found per case."""
    stated = {case.convention: case for case in values if case.convention}
    unstated = [case for case in values if not case.convention]
    if len(stated) > 1 or (stated and unstated):
        one, other = [*stated.values(), *unstated][:2]
        raise DatasetError(
            f"The data folder mixes label conventions: {one.folder} and {other.folder}; use one data set at a time."
        )
    if stated:
        return next(iter(stated))
    with_4 = [case for case, found in values.items() if ENHANCING_IN_FILES_TO_2022 in found]
    with_3 = [case for case, found in values.items() if ENHANCING_IN_FILES_FROM_2023 in found]
    if with_4 and with_3:
        raise DatasetError(
            f"Enhancing tumour must be one label in a data set, but {with_4[0].id} holds 4 (BraTS up to 2022) "
            f"and {with_3[0].id} holds 3 (BraTS from 2023 on); use one data set at a time."
        )
    if with_4:
        return BRATS_TO_2022
    return BRATS_FROM_2023 if with_3 or all(map(_named_as_from_2023, values)) else BRATS_TO_2022


def survey_labels(cases: Iterable[Case], workers: int | None = None) -> dict[Case, LabelSummary]:
    """Read the label map of every labelled case, with progress.

    Threads are enough: unpacking and counting release Python's lock.
    """
    labelled = [case for case in cases if case.segmentation]
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        summaries = pool.map(_summarise_case, labelled)
        return dict(zip(labelled, track(summaries, "reading label maps", len(labelled)), strict=True))


def summarise_labels(label_map: NDArray, file: Path) -> LabelSummary:
    """Count the values of a label map of any shape and type.

    Args:
        file: where it was read, for the message.
    Raises:
        DatasetError: if it holds so many different values that it must be an image.
    """
    with np.errstate(invalid="ignore"):
        small = label_map.astype(np.uint8)
    if not np.array_equal(small, label_map):
        values, counts = np.unique(label_map, return_counts=True)
        if len(values) > MAX_LABEL_VALUES:
            raise DatasetError(f"{file}: holds {len(values)} different values: an image, not a label map.")
        return LabelSummary(dict(zip(values.tolist(), counts.tolist(), strict=True)), None)
    counts = np.bincount(small.ravel(order="K"))
    voxels: dict[float, int] = {value: int(count) for value, count in enumerate(counts) if count}
    small[small == ENHANCING_IN_FILES_TO_2022] = ENHANCING_IN_FILES_FROM_2023
    return LabelSummary(voxels, digest_of(small) if set(voxels) - {0} else None)


def digest_of(voxels: NDArray) -> str:
    """Equal for equal arrays of one type: tells a copy under another name or packing."""
    content = hashlib.blake2b(repr(voxels.shape).encode(), digest_size=16)
    content.update(np.ascontiguousarray(voxels.T).data)
    return content.hexdigest()


def _summarise_case(case: Case) -> LabelSummary:
    assert case.segmentation is not None
    return summarise_labels(read_voxels(load_image(case.segmentation)), case.segmentation)


def _named_as_from_2023(case: Case) -> bool:
    return any(_NAMED_AS_FROM_2023.search(file.name) for file in case.images.values())


# ---------------------------------------------------------------------------------------------------------------------
# Reading one image


def load_image(path: str | Path) -> nib.Nifti1Image:
    """Open a NIfTI file by its content, whatever its ending: `.nii`, `.nii.gz`, `.nii.gz.gz` gzipped once or twice.

    Args:
        path: a file, or `file#channel` for one channel of a 4D file.
    Returns:
        A nibabel image of 3 axes, or of 4 where a 4D file is opened without naming a channel.
    Raises:
        DatasetError: if it is missing, empty, cut short, a Git LFS pointer, no NIfTI file or larger than `MAX_VOXELS`.
    """
    file, channel = split_channel(path)
    content, kind = _read_nifti(file)
    try:
        image = kind.from_stream(io.BytesIO(content))
    except (HeaderDataError, nib.filebasedimages.ImageFileError, ValueError) as error:
        raise DatasetError(f"{file}: its NIfTI header is invalid ({error}).") from error
    if image.ndim > 3:
        image = nib.funcs.squeeze_image(image)  # some tools write a fourth axis of length 1
    if channel is None:
        return image
    if image.ndim != 4 or channel >= image.shape[3]:
        raise DatasetError(f"{file}: has no channel {channel}; its shape is {format_shape(image.shape)}.")
    return image.slicer[..., channel]


def split_channel(path: str | Path) -> tuple[Path, int | None]:
    """`…/BRATS_001.nii.gz#2` as file and channel; the channel is None where none is named."""
    match = _CHANNEL.fullmatch(str(path))
    return (Path(match["file"]), int(match["channel"])) if match else (Path(path), None)


def read_voxels(image: nib.Nifti1Image) -> NDArray:
    """The voxels of an image in the type of the file, or float64 where its header scales them."""
    return np.asanyarray(image.dataobj)


def _read_nifti(file: Path) -> tuple[bytes, type[Any]]:
    """The unpacked file and nibabel's class for it; nothing is unpacked that the header does not announce."""
    if not file.is_file():
        raise DatasetError(f"{file}: no such file.")
    try:
        with file.open("rb") as raw:
            stream = _unpacked(raw)
            start = stream.read(nib.Nifti2Header.sizeof_hdr)
            header = _checked_header(start, file)
            size = header.get_data_offset() + math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
            content = start + stream.read(max(0, size - len(start)))
            stream.read(1)  # at its end a gzip stream compares its checksum
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{file}: is cut short or damaged ({error}); fetch it again.") from error
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror or error}).") from error
    if len(content) < size:
        raise DatasetError(f"{file}: is cut short, {len(content)} of {size} bytes; fetch it again.")
    return content, nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image


def _unpacked(raw: io.BufferedReader) -> BinaryIO:
    stream: Any = raw
    for _ in range(2):
        if stream.peek(2)[:2] == b"\x1f\x8b":
            stream = gzip.GzipFile(fileobj=stream, mode="rb")
    return stream


def _checked_header(start: bytes, file: Path) -> nib.Nifti1Header:
    """The header in the first 540 bytes of a file, if they begin an image that can be held in memory."""
    if not start:
        raise DatasetError(f"{file}: is empty; fetch it again.")
    if start.startswith(b"version https://git-lfs"):
        raise DatasetError(f"{file}: is a Git LFS pointer, not the image; run  git lfs pull.")
    if start.lstrip()[:1] == b"<":
        raise DatasetError(f"{file}: is a web page, not a NIfTI image; the download failed.")
    kind = nib.Nifti2Header if start[4:7] == b"n+2" else nib.Nifti1Header if start[344:347] == b"n+1" else None
    if kind is None or len(start) < kind.sizeof_hdr:
        raise DatasetError(f"{file}: is not a NIfTI image.")
    try:
        header = kind(start[: kind.sizeof_hdr])
        shape, offset, voxel_type = header.get_data_shape(), header.get_data_offset(), header.get_data_dtype()
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise DatasetError(f"{file}: its NIfTI header is invalid ({error}).") from error
    extent = [int(length) for length in shape]
    if len(extent) not in (3, 4, 5) or min(extent) < 1 or any(length > 1 for length in extent[4:]):
        raise DatasetError(f"{file}: its shape {format_shape(extent)} is not that of a volume.")
    if math.prod(extent) > MAX_VOXELS:
        raise DatasetError(f"{file}: its header announces {format_shape(extent)} voxels, more than any scan has.")
    if not kind.sizeof_hdr + 4 <= offset <= MAX_VOXEL_OFFSET_BYTES:
        raise DatasetError(f"{file}: its NIfTI header is invalid (the voxels start at byte {offset}).")
    if voxel_type.kind not in "iuf":
        raise DatasetError(f"{file}: its voxels are colours or complex numbers, not intensities.")
    return header


def format_shape(shape: Iterable[int]) -> str:
    """As people write it: 240×240×155."""
    return "×".join(map(str, shape))
