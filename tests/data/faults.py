"""The faults of `docs/faults.md`: how each is made from a sound patient, and what is expected of it."""

from __future__ import annotations

import ctypes
import gzip
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 2147483\n"
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAPABILITY_VERSION_3 = 1, 2, 0x20080522


@dataclass(frozen=True)
class Patient:
    """A patient's folder in which a fault is made; its files are links to sound ones until they are replaced."""

    folder: Path
    id: str

    def file(self, what: str, ending: str = ".nii.gz") -> Path:
        return self.folder / f"{self.id}_{what}{ending}"

    def write(self, what: str, content: bytes, ending: str = ".nii.gz") -> None:
        self.file(what, ending).unlink(missing_ok=True)
        self.file(what, ending).write_bytes(content)

    def image(self, what: str) -> nib.Nifti1Image:
        return nib.Nifti1Image.from_bytes(gzip.decompress(self.file(what).read_bytes()))

    def save(
        self, what: str, voxels: np.ndarray, affine: np.ndarray | None = None, kind: type = nib.Nifti1Image
    ) -> None:
        image = kind(voxels, self.image(what).affine if affine is None else affine)
        self.write(what, gzip.compress(image.to_bytes(), compresslevel=1))

    def change(self, what: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self.save(what, change(np.asarray(self.image(what).dataobj)))

    def header(self, what: str, **fields: object) -> None:
        content = bytearray(gzip.decompress(self.file(what).read_bytes()))
        header = nib.Nifti1Header(bytes(content[:348]), check=False)
        for name, value in fields.items():
            header[name] = value
        content[:348] = header.binaryblock
        self.write(what, gzip.compress(bytes(content), compresslevel=1))

    def each(self, change: Callable[[nib.Nifti1Image], nib.Nifti1Image]) -> None:
        for what in ("flair", "t1ce", "seg"):
            self.write(what, gzip.compress(change(self.image(what)).to_bytes(), compresslevel=1))


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    Args:
        id: of the patient, or the beginning of it where `name` is the whole.
        refused_by: which of audit, predict and train end with status 1.
        says: what each of the lines that a person sees must contain; empty where nothing is to be said.
    """

    id: str
    title: str
    make: Callable[[Patient], object]
    refused_by: str = "audit predict train"
    says: str = ""
    name: str = ""


def _spoilt(values: dict[int, float]) -> Callable[[np.ndarray], np.ndarray]:
    def spoil(voxels: np.ndarray) -> np.ndarray:
        spoilt = voxels.astype(np.float32)
        for index, value in values.items():
            spoilt.flat[index] = value
        return spoilt

    return spoil


def _turned(what: str) -> Callable[[Patient], None]:
    """One file in RAS, where the others are in LPS."""

    def turn(patient: Patient) -> None:
        image = nib.as_closest_canonical(patient.image(what))
        patient.save(what, np.asarray(image.dataobj), image.affine)

    return turn


def _swap_orientation(image: nib.Nifti1Image) -> nib.Nifti1Image:
    orientation = nib.orientations
    there = orientation.ornt_transform(nib.io_orientation(image.affine), orientation.axcodes2ornt(("A", "I", "R")))
    return image.as_reoriented(there)


def _thick_slices(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return image.slicer[:, :, ::2]


def _ten_slices(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return image.slicer[:, :, 48:58]


def _z_score(voxels: np.ndarray) -> np.ndarray:
    return ((voxels - voxels.mean()) / voxels.std()).astype(np.float32)


def _ring(voxels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 1e-3, voxels.shape)
    return np.where(voxels == 0, noise, voxels).astype(np.float32)


def _gzip_twice(patient: Patient) -> None:
    content = patient.file("flair").read_bytes()
    patient.file("flair").unlink()
    patient.write("flair", gzip.compress(content), ".nii.gz.gz")


def _unpack(patient: Patient) -> None:
    patient.write("flair", gzip.decompress(patient.file("flair").read_bytes()))


def _second_flair(patient: Patient) -> None:
    patient.write("flair", gzip.decompress(patient.file("flair").read_bytes()), ".nii")


def _strangers_flair(patient: Patient) -> None:
    os.link(patient.file("flair"), patient.folder / "stranger_flair.nii.gz")


def _link(target: str) -> Callable[[Patient], None]:
    def make(patient: Patient) -> None:
        file = patient.file("t1ce")
        file.unlink()
        file.symlink_to(file.name if target == "itself" else target)

    return make


def _close_file(patient: Patient) -> None:
    patient.write("t1ce", patient.file("t1ce").read_bytes())
    patient.file("t1ce").chmod(0)


def _pipe(patient: Patient) -> None:
    patient.file("t1ce").unlink()
    os.mkfifo(patient.file("t1ce"))


def _copy_beside(name: str, renamed: bool) -> Callable[[Patient], None]:
    def make(patient: Patient) -> None:
        copy = patient.folder.with_name(name)
        copy.mkdir()
        for file in patient.folder.iterdir():
            os.link(file, copy / (file.name.replace(patient.id, name) if renamed else file.name))

    return make


def _huge(kind: type, *shape: int) -> Callable[[Patient], None]:
    def make(patient: Patient) -> None:
        header = kind()
        header.set_data_dtype(np.float32)
        header["dim"][:4] = (3, *shape)
        header["vox_offset"], header["magic"] = (544, b"n+2") if kind is nib.Nifti2Header else (352, b"n+1")
        patient.write("flair", gzip.compress(header.binaryblock + bytes(10000)))

    return make


def _without_volume(patient: Patient) -> None:
    patient.header("flair", srow_x=[0, 0, 0, 0], sform_code=1)


def _rgb(patient: Patient) -> None:
    colours = np.zeros(patient.image("flair").shape, np.dtype([(c, np.uint8) for c in "RGB"]))
    patient.save("flair", colours)


def _with_itk(
    ending: str,
    whats: Sequence[str] = ("flair",),
    change: Callable[[sitk.Image], sitk.Image] = lambda image: image,
    spoil: Callable[[bytes], bytes] = lambda content: content,
) -> Callable[[Patient], None]:
    """Written again by SimpleITK, packed."""

    def make(patient: Patient) -> None:
        for what in whats:
            image = change(sitk.ReadImage(patient.file(what)))
            for name in image.GetMetaDataKeys():
                if not name.startswith("Segment"):
                    image.EraseMetaData(name)
            patient.file(what).unlink()
            sitk.WriteImage(image, patient.file(what, ending), True)
            patient.write(what, spoil(patient.file(what, ending).read_bytes()), ending)

    return make


def _segments(*names: str) -> Callable[[sitk.Image], sitk.Image]:
    """As 3D Slicer saves them: cut to what is labelled, BraTS's values, each segment of one value."""

    def change(image: sitk.Image) -> sitk.Image:
        box = sitk.LabelShapeStatisticsImageFilter()
        box.Execute(image != 0)
        first, size = box.GetBoundingBox(1)[:3], box.GetBoundingBox(1)[3:]
        cut = sitk.RegionOfInterest(image, size, first)
        for number, (name, value) in enumerate(zip(names, (1, 2, 4), strict=True)):
            for key, text in (("ID", f"Segment_{number}"), ("Name", name), ("LabelValue", value), ("Layer", 0)):
                cut.SetMetaData(f"Segment{number}_{key}", str(text))
        return cut

    return change


GZ = ".nii.gz"
FAULTS = (
    Fault(
        "missing_modality", "T1ce is missing", lambda p: p.file("t1ce").unlink(), "audit predict", says="no T1CE image"
    ),
    Fault("two_flairs", "FLAIR is there twice, packed and unpacked", _second_flair, "", "flair is there 2 times"),
    Fault("two_patients", "a second patient's FLAIR in the folder", _strangers_flair, "audit predict", "no T1CE image"),
    Fault("empty_file", "a file of no bytes", lambda p: p.write("flair", b""), says="is empty; fetch it again"),
    Fault(
        "cut_gzip", "half a gzip file", lambda p: p.write("t1ce", p.file("t1ce").read_bytes()[:5000]), says="cut short"
    ),
    Fault(
        "gzip_checksum",
        "a gzip file whose checksum does not match",
        lambda p: p.write("t1ce", p.file("t1ce").read_bytes()[:-8] + bytes(8)),
        says="cut short or damaged",
    ),
    Fault("lfs_pointer", "a Git LFS pointer", lambda p: p.write("flair", LFS_POINTER), says="run  git lfs pull"),
    Fault("web_page", "HTML saved as .nii.gz", lambda p: p.write("flair", b"<html>Sign in</html>"), says="a web page"),
    Fault("wrong_magic", "a header with another magic", lambda p: p.header("flair", magic=b"abc"), says="not a NIfTI"),
    Fault("two_axes", "a 2D image", lambda p: p.change("flair", lambda v: v[..., 30]), says="not that of a volume"),
    Fault(
        "four_axes",
        "a 4D image",
        lambda p: p.change("flair", lambda v: np.stack([v, v], -1)),
        says="one volume per file",
    ),
    Fault(
        "five_axes",
        "a 5D image",
        lambda p: p.change("flair", lambda v: np.stack([v, v], -1)[..., None, :]),
        says="not that of a volume",
    ),
    Fault("axis_of_one", "a fourth axis of length 1", lambda p: p.change("flair", lambda v: v[..., None]), ""),
    Fault("other_shape", "T1ce of another shape", lambda p: p.change("t1ce", lambda v: v[:-1]), says="voxels"),
    Fault(
        "other_affine",
        "T1ce with another affine",
        lambda p: p.save("t1ce", np.asarray(p.image("t1ce").dataobj), p.image("t1ce").affine + np.eye(4, k=3) * 5),
        says="affine",
    ),
    Fault("turned_axes", "all images stored along other axes, flipped", lambda p: p.each(_swap_orientation), ""),
    Fault("turned_labels", "only the label map along other axes", _turned("seg"), ""),
    Fault("turned_image", "only T1ce along other axes", _turned("t1ce"), ""),
    Fault(
        "two_micrometres",
        "an origin 2 µm beside the others",
        lambda p: p.save("seg", np.asarray(p.image("seg").dataobj), p.image("seg").affine + np.eye(4, k=3) * 0.002),
        "",
    ),
    Fault("thick_slices", "anisotropic voxels, slices of 4 mm", lambda p: p.each(_thick_slices), ""),
    Fault("no_volume", "an affine that spans no volume", _without_volume, says="does not describe a volume"),
    Fault("nan", "NaN in one voxel", lambda p: p.change("t1ce", _spoilt({99: np.nan})), says="1 voxels are not finite"),
    Fault(
        "infinite",
        "infinities",
        lambda p: p.change("t1ce", _spoilt({9: np.inf, 99: -np.inf})),
        says="2 voxels are not finite",
    ),
    Fault(
        "constant", "every voxel 7", lambda p: p.change("flair", lambda v: np.full_like(v, 7)), says="every voxel is 7"
    ),
    Fault("all_zero", "every voxel 0", lambda p: p.change("flair", np.zeros_like), says="every voxel is 0"),
    Fault("z_scored", "a z-scored copy, background not zero", lambda p: p.change("flair", _z_score), ""),
    Fault("air_1024", "air at -1024", lambda p: p.change("flair", lambda v: np.where(v == 0, -1024, v)), ""),
    Fault("ringing", "ringing of 0.001 around the brain", lambda p: p.change("flair", _ring), "", "is not one value"),
    Fault(
        "hot_voxel",
        "one voxel of 1e9",
        lambda p: p.change("t1ce", _spoilt({99: 1e9})),
        "",
        "far beyond its intensities",
    ),
    Fault("complex", "complex voxels", lambda p: p.change("flair", lambda v: v.astype(np.complex64)), says="complex"),
    Fault("rgb", "coloured voxels", _rgb, says="colours"),
    Fault("huge_header", "a header of 30000³ voxels", _huge(nib.Nifti1Header, *[30000] * 3), says="more than any scan"),
    Fault(
        "terabytes", "NIfTI-2 of 10⁶×10⁶×100 voxels", _huge(nib.Nifti2Header, 10**6, 10**6, 100), says="more than any"
    ),
    Fault("hollow", "10 kB packed that announce 400 MB", _huge(nib.Nifti1Header, 500, 500, 400), says="cut short"),
    Fault("slope_zero", "scl_slope 0, which means no scaling", lambda p: p.header("flair", scl_slope=0), ""),
    Fault("slope_nan", "scl_slope NaN, which means no scaling", lambda p: p.header("flair", scl_slope=np.nan), ""),
    Fault(
        "intercept_nan",
        "scl_slope 2 with scl_inter NaN",
        lambda p: p.header("flair", scl_slope=2, scl_inter=np.nan),
        says="header is invalid",
    ),
    Fault(
        "label_7",
        "a label 7",
        lambda p: p.change("seg", lambda v: np.where(v == 1, 7, v).astype(np.uint8)),
        "audit train",
        "7",
    ),
    Fault(
        "whole_floats", "labels as floats, 1.0 2.0 4.0", lambda p: p.change("seg", lambda v: v.astype(np.float32)), ""
    ),
    Fault(
        "near_labels",
        "labels 0.9999, 1.9998 and 3.9996",
        lambda p: p.change("seg", lambda v: v * np.float32(0.9999)),
        "",
    ),
    Fault(
        "half_labels", "labels 0.5, 1, 2", lambda p: p.change("seg", lambda v: v / np.float32(2)), "audit train", "0.5"
    ),
    Fault(
        "image_as_labels",
        "FLAIR in place of the segmentation",
        lambda p: p.save("seg", np.asarray(p.image("flair").dataobj)),
        "audit train",
        "label",
    ),
    Fault(
        "others_labels",
        "another patient's segmentation, partly outside the brain",
        lambda p: p.change("seg", lambda v: np.roll(v, (18, 9), (0, 1))),
        "",
        "outside the brain",
    ),
    Fault(
        "labels_elsewhere",
        "a segmentation of another shape",
        lambda p: p.change("seg", lambda v: v[:-1]),
        "audit train",
        "voxels",
    ),
    Fault("no_tumour", "no tumour", lambda p: p.change("seg", np.zeros_like), "", "no tumour"),
    Fault(
        "tumour_below",
        "all tumour outside the slices in use",
        lambda p: p.change("seg", lambda v: np.roll(v, -20, 2) * (np.arange(v.shape[2]) < 28)),
        "",
        "no tumour in the slices in use",
    ),
    Fault("ten_slices", "a volume of 10 slices", lambda p: p.each(_ten_slices), "train", "10 slices of 2 mm"),
    Fault("closed_file", "a file without permission to read", _close_file, says="Permission denied"),
    Fault(
        "closed_folder",
        "a folder without permission to read",
        lambda p: p.folder.chmod(0),
        "audit predict",
        "cannot be read (Permission denied)",
    ),
    Fault("link_loop", "a symbolic link to itself", _link("itself"), says="a link that leads to no file"),
    Fault(
        "dead_link", "a symbolic link to nothing", _link("/nowhere/t1ce.nii.gz"), says="a link that leads to no file"
    ),
    Fault("pipe", "a pipe with the name of an image", _pipe, says="not a file"),
    Fault("twice_packed", "gzipped twice", _gzip_twice, ""),
    Fault("unpacked", "not packed though it ends in .gz", _unpack, ""),
    Fault("metaimage", "all files as .mha", _with_itk(".mha", ("flair", "t1ce", "seg")), ""),
    Fault("nrrd", "all files as .nrrd", _with_itk(".nrrd", ("flair", "t1ce", "seg")), ""),
    Fault(
        "mha_byte",
        "a packed .mha with a changed byte",
        _with_itk(".mha", spoil=lambda content: content[:-900] + bytes([content[-900] ^ 255]) + content[-899:]),
        says="cut short or damaged",
    ),
    Fault(
        "colours_nrrd",
        "three values per voxel in .nrrd",
        _with_itk(".nrrd", change=lambda image: sitk.Compose(image, image, image)),
        says="3 values per voxel",
    ),
    Fault("slicer", "3D Slicer's segments, cut out", _with_itk(".seg.nrrd", ("seg",), _segments("a", "b", "c")), ""),
    Fault(
        "some_names",
        "one of 3D Slicer's segments has an unknown name",
        _with_itk(".seg.nrrd", ("seg",), _segments("necrosis", "edema", "Segment_3")),
        "audit train",
        "are no known classes",
    ),
    Fault("accents", "a name that is not ASCII", lambda p: None, "", name="Patientin Müller 脳腫瘍"),
    Fault("spaces", "a name with spaces", lambda p: None, "", name="a b  c"),
    Fault("dollar", "a name that looks like code", lambda p: None, "", name="$import os; os.abort()"),
    Fault("markup", "a name that looks like HTML", lambda p: None, "", name="<b onclick=alert(1)>"),
    Fault("long_name", "a name of 225 bytes", lambda p: None, "audit predict", "more than 200 bytes", name="x" * 225),
    Fault("escape", "an escape sequence in the name", lambda p: None, "audit predict", "control", name="\x1b[31mred"),
    Fault("same_id", "one id in two folders", _copy_beside("another_folder", False), "predict", "wice"),
    Fault("letter_case", "ids that differ by letter case", _copy_beside("LETTER_CASE", True), "predict", "letter case"),
)


def make_faults(root: Path, sound: dict[str, Path]) -> dict[str, Path]:
    """Every fault in a folder of its own below `root`, by id of the fault.

    Args:
        sound: a sound patient's files by `flair`, `t1ce` and `seg`.
    """
    folders = {}
    for fault in FAULTS:
        name = fault.name or fault.id
        folders[fault.id] = root / fault.id
        patient = Patient(root / fault.id / name, name)
        patient.folder.mkdir(parents=True)
        for what, file in sound.items():
            os.link(file, patient.file(what))
        fault.make(patient)
    return folders


def remove(root: Path) -> None:
    """Delete what `make_faults` made, closed folders included."""
    for folder in root.glob("*/*"):
        folder.chmod(0o755)
    shutil.rmtree(root)


@contextmanager
def without_root_rights() -> Iterator[None]:
    """Permissions hold for this thread as they do for everybody, also where tests run as root (Linux)."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    before = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice
    if libc.capget(header, before) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    less = (ctypes.c_uint32 * 6)(*before)
    less[0] &= ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    libc.capset(header, less)
    try:
        yield
    finally:
        libc.capset(header, before)
