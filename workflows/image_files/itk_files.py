"""Read MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr) files, as ITK and 3D Slicer write them, as NIfTI images.

Our own, since SimpleITK takes a damaged compressed .mha for a sound one and prints what is wrong instead of raising it,
and would be 264 MB more to install. `tests/image_files/test_itk_files.py` compares the two.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from workflows.image_files.class_names import meaning_of
from workflows.image_files.file_content import opened, refuse_cut, refuse_no_image, refuse_shape
from workflows.image_files.segments import Segmentation, label_map_of, segments_in
from workflows.messages.errors import DatasetError

ENDINGS = (".mha", ".mhd", ".nrrd", ".nhdr")
SEGMENTATION_ENDING = ".seg.nrrd"
HEADER_BYTES = 2**20
ZLIB_OR_GZIP = 47
"""For `zlib.decompressobj`, which then tells the two apart: MetaImage has the one, NRRD the other."""

WHOLE_NUMBERS = (("char", 1), ("short", 2), ("int", 4), ("long", 4), ("long_long", 8))
META_TYPES = {
    **{f"met_{name}": f"i{size}" for name, size in WHOLE_NUMBERS},
    **{f"met_u{name}": f"u{size}" for name, size in WHOLE_NUMBERS},
    "met_float": "f4",
    "met_double": "f8",
}
NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
TO_RAS = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
}
"""Signs that turn NRRD's spaces into the patient's right, anterior and superior."""
LPS = "lps"
"""Of ITK, and so of every MetaImage."""


class _Fields(dict[str, str]):
    """What a header says, by name in lower case."""

    def __missing__(self, name: str) -> str:
        raise ValueError(f"it has no {name}")

    def numbers(self, names: Sequence[str], default: Sequence[float]) -> NDArray[np.float64]:
        """The numbers in the first of these fields that is there."""
        found = next((self[name] for name in names if name in self), None)
        return np.array(default if found is None else re.findall(r"[^\s(),]+", found), dtype=np.float64)


@dataclass(frozen=True)
class ItkHeader:
    """What a header says.

    Args:
        sizes: lengths of all axes, the fastest first.
        in_space: the numbers of the axes that lie in space; another one counts the values of a voxel.
        directions: (axes in space, 3), the steps from voxel to voxel in mm.
        space: in which `directions` and `origin` are given, one of `TO_RAS`; empty where it is not stated.
        data: the file of the voxels, which begin at byte `start`.
    """

    sizes: tuple[int, ...]
    in_space: tuple[int, ...]
    voxel_type: np.dtype[Any]
    directions: NDArray[np.float64]
    origin: NDArray[np.float64]
    space: str
    data: Path
    start: int
    packed: bool
    fields: Mapping[str, str]

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along the axes in space."""
        return tuple(self.sizes[axis] for axis in self.in_space)

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) from voxels to mm towards the patient's right, anterior and superior."""
        affine = np.eye(4)
        affine[:3] = np.column_stack([self.directions.T, self.origin])
        return np.diag([*TO_RAS[self.space or LPS], 1.0]) @ affine


def is_itk_file(file: Path) -> bool:
    """Whether a file has one of the `ENDINGS`."""
    return file.name.lower().endswith(ENDINGS)


def itk_grid(file: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Shape and affine of an image, from its header alone."""
    header = _read_header(file)
    return header.shape, header.affine


def names_classes(file: Path) -> bool:
    """Whether a file is a segmentation of 3D Slicer whose segments are all called after classes."""
    if not file.name.lower().endswith(SEGMENTATION_ENDING):
        return False
    try:
        segments = segments_in(_read_header(file).fields, file)
    except DatasetError:
        return False
    return bool(segments) and all(meaning_of(segment.name) for segment in segments)


def read_itk_file(file: Path) -> nib.Nifti1Image:
    """The image in a file; what 3D Slicer saved as a segmentation becomes a `Segmentation`.

    Raises:
        DatasetError: if it is missing, cut short, damaged, too large, or none that this project reads.
    """
    header = _read_header(file)
    segments = segments_in(header.fields, file)
    values = math.prod(header.sizes) // max(math.prod(header.shape), 1)
    if values != 1 and not segments:
        raise DatasetError(f"{file}: holds {values} values per voxel; one volume per file is expected, so split it.")
    with opened(header.data, gzip.GzipFile) as (raw, _, _):
        content = _unpacked(raw, header, file)
    voxels: NDArray[Any] = np.frombuffer(content, header.voxel_type).reshape(header.sizes, order="F")
    voxels = np.moveaxis(voxels, header.in_space, range(3)).reshape(*header.shape, values)
    if segments:
        return _as_nifti(Segmentation, label_map_of(voxels, segments, file), header, file)
    return _as_nifti(nib.Nifti1Image, voxels[..., 0].astype(header.voxel_type.newbyteorder("=")), header, file)


def _as_nifti(kind: type[Any], voxels: NDArray[Any], header: ItkHeader, file: Path) -> nib.Nifti1Image:
    try:
        with np.errstate(all="ignore"):
            image: nib.Nifti1Image = kind(voxels, header.affine, dtype=voxels.dtype)
    except (np.linalg.LinAlgError, HeaderDataError) as error:
        why = "its affine does not describe a volume; convert it again from its source."
        raise DatasetError(f"{file}: {why}") from error
    if not header.space:
        image.header["sform_code"] = 0  # for those who warn of it
    return image


def _unpacked(raw: BinaryIO, header: ItkHeader, file: Path) -> bytes:
    """The bytes of the voxels; no more is unpacked than the header announces."""
    size = math.prod(header.sizes) * header.voxel_type.itemsize
    there = os.fstat(raw.fileno()).st_size - header.start
    refuse_cut(there, int(header.packed), size, file)
    raw.seek(header.start)
    if not header.packed:
        return raw.read(size)
    unpacking = zlib.decompressobj(ZLIB_OR_GZIP)
    content = unpacking.decompress(raw.read(), size)
    unpacking.decompress(unpacking.unconsumed_tail, 1)  # to its end, where its checksum is compared
    if len(content) < size or not unpacking.eof:
        raise DatasetError(f"{file}: is cut short or damaged; fetch it again.")
    return content


def _read_header(file: Path) -> ItkHeader:
    with opened(file, gzip.GzipFile) as (raw, _, _):
        start = raw.read(HEADER_BYTES)
    refuse_no_image(start, file)
    if not start.startswith(b"NRRD") and b"ElementDataFile" not in start:
        raise DatasetError(f"{file}: is not a MetaImage or NRRD image; convert it, or fetch it again.")
    try:
        header = _nrrd(start, file) if start.startswith(b"NRRD") else _meta_image(start, file)
    except (ValueError, IndexError) as error:
        raise DatasetError(f"{file}: its header is invalid ({error}); fetch or convert it again.") from error
    refuse_shape(header.shape if len(header.shape) != 3 else header.sizes, header.voxel_type, file)
    if header.directions.shape != (3, 3) or header.origin.shape != (3,):
        raise DatasetError(f"{file}: its header is invalid (no three axes in space); fetch or convert it again.")
    return header


def _meta_image(start: bytes, file: Path) -> ItkHeader:
    """See https://itk.org/Wiki/MetaIO/Documentation; `ElementDataFile` is the last line."""
    end = start.index(b"\n", start.index(b"ElementDataFile")) + 1
    lines = (line.partition("=") for line in start[:end].decode(errors="replace").splitlines())
    fields = _Fields({name.strip().lower(): value.strip() for name, _, value in lines})
    number = int(fields["ndims"])
    values = int(fields.get("elementnumberofchannels", 1))
    sizes = tuple(map(int, fields["dimsize"].split()))
    spacing = fields.numbers(("elementspacing", "elementsize"), [1] * number)
    rows = fields.numbers(("transformmatrix", "rotation", "orientation"), np.eye(number).ravel().tolist())
    if not len(sizes) == number == len(spacing):
        raise ValueError("its numbers of axes differ")
    if _true(fields, "binarydata", "True") is False or int(fields.get("headersize", 0)):
        raise ValueError("its voxels are text, or begin elsewhere")
    name = fields["elementdatafile"]
    first = int(values > 1)  # ITK keeps the values of a voxel together
    big_endian = _true(fields, "binarydatabyteordermsb") or _true(fields, "elementbyteordermsb")
    return ItkHeader(
        sizes=((values,) if first else ()) + sizes,
        in_space=tuple(range(first, first + min(number, 3))),
        voxel_type=_voxel_type(META_TYPES, fields["elementtype"], big_endian),
        directions=(rows.reshape(number, number) * spacing[:, None])[:3, :3],
        origin=fields.numbers(("offset", "position", "origin"), [0] * number)[:3],
        space=LPS if fields.keys() & {"transformmatrix", "rotation", "orientation"} else "",
        data=file if name == "LOCAL" else _beside(file, name),
        start=end if name == "LOCAL" else 0,
        packed=_true(fields, "compresseddata"),
        fields=fields,
    )


def _nrrd(start: bytes, file: Path) -> ItkHeader:
    """See https://teem.sourceforge.net/nrrd/format.html; an empty line ends the header."""
    end = re.search(rb"\r?\n\r?\n", start)
    lines = start[: end.start() if end else None].decode(errors="replace").splitlines()[1:]
    pairs = (re.fullmatch(r"([^:#][^:]*):=?\s*(.*)", line) for line in lines)
    fields = _Fields({pair[1].strip().lower(): pair[2].strip() for pair in pairs if pair})
    sizes = tuple(map(int, fields["sizes"].split()))
    steps = re.findall(r"none|\([^)]*\)", fields.get("space directions", "")) or ["stated by spacings"] * len(sizes)
    in_space = tuple(axis for axis, step in enumerate(steps) if step != "none")
    spacing = fields.numbers(("spacings",), [1] * len(sizes))
    stated = [[float(number) for number in step.strip("()").split(",")] for step in steps if step.startswith("(")]
    packed = {"raw": False, "gzip": True, "gz": True}.get(fields["encoding"].lower())
    if packed is None or int(fields.get("line skip", 0)) or int(fields.get("byte skip", 0)):
        raise ValueError(f"encoding {fields['encoding']} or skipped bytes, which are not read here")
    name = fields.get("data file") or fields.get("datafile")
    if len(steps) != len(sizes) or not (end or name):
        raise ValueError("its numbers of axes differ, or it has no end")
    return ItkHeader(
        sizes=sizes,
        in_space=in_space,
        voxel_type=_voxel_type(NRRD_TYPES, fields["type"], fields.get("endian", "little").lower() == "big"),
        directions=np.array(stated) if stated else np.diag(spacing),
        origin=fields.numbers(("space origin",), [0] * len(in_space)),
        space=space if (space := fields.get("space", "").lower()) in TO_RAS and stated else "",
        data=_beside(file, name) if name else file,
        start=end.end() if end and not name else 0,
        packed=packed,
        fields=fields,
    )


def _voxel_type(known: Mapping[str, str], name: str, big_endian: bool) -> np.dtype[Any]:
    if name.lower() not in known:
        raise ValueError(f"voxels of the type {name}, which are no intensities")
    return np.dtype(known[name.lower()]).newbyteorder(">" if big_endian else "<")


def _true(fields: Mapping[str, str], name: str, default: str = "False") -> bool:
    return fields.get(name, default).lower() in ("true", "t", "1")


def _beside(header: Path, name: str) -> Path:
    """The file of the voxels, which lies beside its header: a path in a header may lead anywhere."""
    if name.split()[0].upper() == "LIST" or "%" in name:
        raise ValueError("its voxels lie in several files, which are not read here")
    return header.with_name(PureWindowsPath(name).name)
