"""`brats-unet explore`: every picture is there, linked, captioned and of the stated size; the data stay untouched."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.support import REPOSITORY, Head, Started, WritePatient, listing, start
from workflows.data.find_cases import find_cases
from workflows.data.label_conventions import BRATS_TO_2022
from workflows.explore.sections import Picture, Section, folder_name, write_page
from workflows.image_files.oriented import Plane
from workflows.messages.text_tables import TextTable
from workflows.pictures.case_scene import load_scene
from workflows.pictures.colours import CLASS_COLOURS, WINDOW_COLOUR
from workflows.pictures.drawing import overlay

Command = Callable[..., Started]

DATASET = ("labels", "volumes", "slices", "windows", "intensities", "centres", "boxes")
CASE = ("modalities", "planes", "montage", "classes", "one_hot", "preprocessing")
NEED_LABELS = {"classes", "one_hot"}
SMALL = ("--slice-range", "5:30", "--workers", "1")


class Links(HTMLParser):
    """What a page shows and where it leads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.hrefs: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        if tag == "img":
            self.images.append(found)
        elif tag == "a":
            self.hrefs.append(str(found["href"]))


@pytest.fixture(scope="module")
def explored(phantom_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Started]:
    """Pictures of `phantom_dir`, made by the command in a process of its own, the data set read by two."""
    before = listing(phantom_dir)
    out = tmp_path_factory.mktemp("explored")
    ended = start("-m", "workflows", "explore", phantom_dir, "--out", out, "--workers", "2", cwd=REPOSITORY)
    assert ended.status == 0, ended.stderr
    assert listing(phantom_dir) == before
    return out, ended


def drawn_case(out: Path) -> Path:
    (folder,) = (out / "cases").iterdir()
    return folder


def test_every_picture_of_the_data_set_and_of_one_case_is_there(explored: tuple[Path, Started]):
    out, _ = explored
    assert {file.stem for file in (out / "dataset").iterdir()} == set(DATASET)
    assert {file.stem for file in drawn_case(out).iterdir()} == set(CASE)


def test_the_page_shows_each_picture_once_with_a_caption_and_its_true_size(explored: tuple[Path, Started]):
    out, _ = explored
    images = Links((out / "index.html").read_text(encoding="utf-8")).images
    files = [out / unquote(str(image["src"])) for image in images]
    assert sorted(files) == sorted(out.rglob("*.png"))
    for image, file in zip(images, files, strict=True):
        with Image.open(file) as picture:
            assert (image["width"], image["height"]) == tuple(map(str, picture.size)), file
        assert image["alt"]


def test_the_page_needs_nothing_but_the_folder_it_lies_in(explored: tuple[Path, Started]):
    out, _ = explored
    text = (out / "index.html").read_text(encoding="utf-8")
    page = Links(text)
    assert not page.tags & {"script", "link", "iframe"}
    for link in [*page.hrefs, *(str(image["src"]) for image in page.images)]:
        assert link.startswith("#") or (out / unquote(link)).is_file(), link
    assert not re.search(r"https?://|//", re.sub(r"<!.*?>", "", text))


def test_the_terminal_says_what_a_case_holds(explored: tuple[Path, Started], phantom_dir: Path):
    out, ended = explored
    name = drawn_case(out).name
    seg = np.asarray(nib.load(phantom_dir / name / f"{name}_seg.nii.gz").dataobj)
    said = ended.stdout.split(f"{name}\n", 1)[1]
    assert "shape 120×120×155, 2×2×1 mm, LPS\n" in said
    for value in np.unique(seg):
        assert re.search(rf"^ +{value} [a-z ]+: {np.count_nonzero(seg == value)} voxels$", said, re.MULTILINE)
    assert "3 cases, 3 with labels" in ended.stdout
    assert "reading: 3/3" in ended.stderr


def test_a_table_holds_the_voxels_of_every_case(explored: tuple[Path, Started], phantom_dir: Path):
    out, _ = explored
    head, *rows = (out / "cases.csv").read_text(encoding="utf-8").splitlines()
    assert head.startswith("case,shape,spacing mm,orientation,0 background,1 necrotic core,")
    assert [row.split(",")[0] for row in rows] == sorted(folder.name for folder in phantom_dir.glob("BraTS20_*"))


def test_the_montage_frames_the_window_in_its_colour(explored: tuple[Path, Started]):
    out, _ = explored
    with Image.open(drawn_case(out) / "montage.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in (WINDOW_COLOUR, *CLASS_COLOURS.values()):  # the classes' are those of the legend
        assert (np.abs(pixels.astype(int) - colour).max(axis=1) <= 1).sum() > 100, colour


def test_a_class_is_drawn_over_a_scan_in_its_own_colour():
    drawn = overlay(np.array([0, *CLASS_COLOURS]), opacity=0.5)
    assert drawn[:, 3].tolist() == [0, 0.5, 0.5, 0.5]
    assert np.rint(drawn[1:, :3] * 255).astype(int).tolist() == [list(colour) for colour in CLASS_COLOURS.values()]


def test_one_case_in_a_named_plane_and_slice_without_the_data_set(
    command: Command, write_patient: WritePatient, tmp_path: Path
):
    write_patient("P1")
    write_patient("P2")
    (tmp_path / "P1" / "P1_flair.nii.gz").write_bytes(b"broken, and not asked for")
    out = tmp_path.with_name(f"{tmp_path.name}-out")
    options = ("--case", "P2", "--plane", "coronal", "--slice", "20", *SMALL)
    ended = command("explore", tmp_path, "--out", out, *options)
    assert ended.status == 0, ended.stderr
    assert ended.stdout.splitlines()[:2] == ["P2", "  shape 48×48×40, 1×1×1 mm, LPS"]
    assert not (out / "dataset").exists()
    assert {file.stem for file in (out / "cases" / "P2").iterdir()} == set(CASE)


def test_a_patient_without_segmentation_and_with_names_from_2023_is_drawn(command: Command, head: Head, tmp_path: Path):
    folder = tmp_path / "data" / "BraTS-GLI-00005-000"
    folder.mkdir(parents=True)
    for name, key in (("t2f", "flair"), ("t1c", "t1ce")):
        image = nib.Nifti1Image(head[key], np.diag([1.0, 1, 2.5, 1]))
        nib.save(image, folder / f"{folder.name}-{name}.nii.gz")
    ended = command("explore", tmp_path / "data", "--out", tmp_path / "out", *SMALL)
    assert ended.status == 0, ended.stderr
    assert "  no segmentation\n" in ended.stdout
    assert {file.stem for file in drawn_case(tmp_path / "out").iterdir()} == set(CASE) - NEED_LABELS
    assert {file.stem for file in (tmp_path / "out" / "dataset").iterdir()} == {"intensities", "boxes"}


def test_the_slice_with_most_tumour_is_shown_unless_another_is_named(write_patient: WritePatient, tmp_path: Path):
    write_patient()
    (case,) = find_cases(tmp_path).cases
    scene = load_scene(case, ["flair"], BRATS_TO_2022, Plane.axial, None, (5, 30))
    assert dict(scene.slices) == {Plane.axial: 21, Plane.coronal: 27, Plane.sagittal: 19}  # the tumour's centre
    named = load_scene(case, ["flair"], BRATS_TO_2022, Plane.axial, 0, (5, 30))
    assert named.slices[Plane.axial] == 0


def test_a_z_scored_background_is_shown_black(write_patient: WritePatient, head: Head, tmp_path: Path):
    scored = np.where(head["flair"] == 0, 0.7, (head["flair"] - 300) / 40).astype(np.float32)
    write_patient(flair=scored)
    (case,) = find_cases(tmp_path).cases
    scene = load_scene(case, ["flair"], BRATS_TO_2022, Plane.axial, None, (5, 30))
    assert scene.scans["flair"][0, 0, 0] == pytest.approx(scene.grey["flair"][0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--case", "P7"), r"P7: no such case among the 1 below .*, e\.g\. P1\."),
        (("--case", "P1", "--slice", "40"), r"P1: there is no axial slice 40; choose one of 0 to 39\."),
        (("--case", "P1", "--modalities", "t2"), r"P1: has none of t2; it has flair, t1ce\."),
    ],
)
def test_what_is_not_there_is_named_in_one_line(
    command: Command, write_patient: WritePatient, tmp_path: Path, options: tuple[str, ...], words: str
):
    write_patient()
    out = tmp_path.with_name(f"{tmp_path.name}-out")
    ended = command("explore", tmp_path, "--out", out, *options)
    assert ended.status == 1
    assert re.fullmatch(rf"error: {words}\n", ended.stderr)
    assert not out.exists()


def test_nothing_is_written_into_the_data_folder(command: Command, write_patient: WritePatient, tmp_path: Path):
    write_patient()
    before = listing(tmp_path)
    ended = command("explore", tmp_path, "--out", tmp_path / "pictures")
    assert ended.status == 1
    assert "lies in the data folder" in ended.stderr
    assert listing(tmp_path) == before


def test_words_from_files_cannot_become_part_of_the_page(tmp_path: Path):
    evil = '<script>alert("&")</script>'
    section = Section(evil, [evil], [Picture(f"a/{evil}.png", evil, (1, 1))], [TextTable(evil, [evil], [[evil]])])
    write_page(tmp_path / "page.html", evil, [section], evil)
    page = Links((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert unquote(str(page.images[0]["src"])) == f"a/{evil}.png"
    assert page.images[0]["alt"] == evil


@pytest.mark.parametrize("case_id", ["..", ".", "a/b", "<b>", "", "BraTS20_Training_001"])
def test_a_cases_folder_stays_within_the_output(case_id: str):
    name = folder_name(case_id)
    assert re.fullmatch(r"[\w-][\w.-]*", name)
    assert (name == case_id) == (case_id == "BraTS20_Training_001")
