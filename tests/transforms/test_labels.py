"""The label constants agree with each other and with the files that BraTS publishes."""

from __future__ import annotations

from transforms import labels
from workflows.data.file_names import MODALITY_SUFFIXES
from workflows.pictures.colours import CLASS_COLOURS


def test_the_regions_are_nested():
    whole, core, enhancing = (set(labels.REGIONS[name]) for name in ("WT", "TC", "ET"))
    assert enhancing < core < whole


def test_the_whole_tumour_is_every_class_but_background():
    assert sorted(labels.REGIONS["WT"]) == [1, 2, 3]
    assert labels.BACKGROUND == 0
    assert labels.NUM_CLASSES == 4


def test_the_study_reads_flair_and_t1ce_in_this_order():
    assert labels.STUDY_MODALITIES == ("flair", "t1ce")
    assert labels.MODALITIES[:2] == labels.STUDY_MODALITIES


def test_no_two_modalities_share_a_file_ending():
    endings = [ending for both in MODALITY_SUFFIXES.values() for ending in both]
    assert len(set(endings)) == len(endings)
    assert tuple(MODALITY_SUFFIXES) == labels.MODALITIES


def test_every_tumour_class_and_region_has_a_name_and_no_two_classes_a_colour():
    assert set(CLASS_COLOURS) == set(labels.REGIONS["WT"])
    assert len(set(CLASS_COLOURS.values())) == 3
    assert all(0 <= channel <= 255 for colour in CLASS_COLOURS.values() for channel in colour)
    assert set(labels.REGION_NAMES) == set(labels.REGIONS)
    assert labels.CLASS_NAMES[labels.ENHANCING] == "enhancing tumour"
    assert labels.CLASS_NAMES[labels.OEDEMA] == "oedema"
    assert labels.CLASS_NAMES[labels.NECROTIC_CORE] == "necrotic core"
