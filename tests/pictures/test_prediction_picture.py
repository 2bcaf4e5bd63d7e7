"""The picture of one prediction."""

from __future__ import annotations

from pathlib import Path

from workflows.pictures.prediction_picture import draw_prediction


def test_a_label_map_is_drawn_into_a_folder_that_is_made(phantom_dir: Path, tmp_path: Path):
    folder = phantom_dir / "BraTS20_Training_001"
    picture = tmp_path / "new" / "picture.png"
    seg = folder / f"{folder.name}_seg.nii.gz"
    assert draw_prediction(folder, seg, picture, ("flair", "t1ce"), "phantom") == picture
    assert picture.read_bytes().startswith(b"\x89PNG")
