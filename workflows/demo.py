"""The whole of the project on generated data, in minutes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from transforms.labels import STUDY_MODALITIES
from workflows.evaluate import COLUMNS, PER_CASE_FILE, mean_dice, run_evaluation
from workflows.figures import draw_prediction
from workflows.nifti_files import load_image
from workflows.phantom import generate_dataset
from workflows.predict import VOLUMES_FILE, predict
from workflows.split import read_datalist
from workflows.train import MODEL, train

CASES = 12


def run_demo(out: Path) -> None:
    """Generate a small data set, train, evaluate, predict one patient and draw the result below `out`.

    A step whose result is there is skipped.
    """
    data, run, scores, prediction = out / "data", out / "run", out / "evaluation", out / "prediction"
    _step("1/5 generating data", data, lambda: generate_dataset(data, cases=CASES, size="small"), _complete(data))
    trained = (run / "finished").exists()
    _step("2/5 training", run, lambda: _train(data, run), trained)
    checkpoint = run / MODEL
    evaluation = {"checkpoint": str(checkpoint), "output_dir": str(scores)}
    _step("3/5 evaluating", scores, lambda: run_evaluation([], evaluation), (scores / PER_CASE_FILE).exists())
    folder = _first_test_patient(run, data)
    seg = prediction / folder.name / f"{folder.name}_seg.nii.gz"
    named = {"checkpoint": str(checkpoint), "patient_dir": str(folder), "output_dir": str(prediction)}
    _step("4/5 predicting one patient", seg, lambda: predict([], named), (prediction / VOLUMES_FILE).exists())
    picture = seg.with_name(f"{folder.name}.png")
    draw = lambda: draw_prediction(folder, seg, picture, STUDY_MODALITIES, "phantom")  # noqa: E731
    _step("5/5 drawing", picture, draw, picture.exists())
    _say_where_to_look(run, scores, seg, picture)


def _step(name: str, result: Path, work: Callable[[], object], done: bool) -> None:
    print(f"{name}: {f'{result} is there, skipped' if done else result}", flush=True)
    if not done:
        work()


def _complete(data: Path) -> bool:
    return len(list(data.glob("BraTS20_Training_*/*_seg.nii.gz"))) == CASES


def _train(data: Path, run: Path) -> None:
    train(["demo"], {"dataset_dir": str(data), "run_dir": str(run)}, resume=True)
    (run / "finished").touch()


def _first_test_patient(run: Path, data: Path) -> Path:
    return Path(read_datalist(run / "split.json", data)["testing"][0]["flair"]).parent


def _say_where_to_look(run: Path, scores: Path, seg: Path, picture: Path) -> None:
    rows = [{**row, "dice": float(row["dice"])} for row in csv.DictReader((scores / PER_CASE_FILE).open())]
    means = ", ".join(f"{region} {mean:.3f}" for region, mean in mean_dice(rows).items())
    cases = len({row[COLUMNS[0]] for row in rows})
    print(f"\nDone (phantom data). Mean Dice of {cases} test cases on whole volumes: {means}")
    print(f"  label map    {seg}  {load_image(seg).shape}")
    print(f"  picture      {picture}")
    print(f"  scores       {scores / PER_CASE_FILE}")
    print(f"  curves       tensorboard --logdir {run}")
