"""The whole of the project on generated data, in minutes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from transforms.labels import REGIONS, STUDY_MODALITIES
from workflows.evaluation.evaluate_checkpoint import run_evaluation
from workflows.evaluation.output_files import SCORES_FILE, SUMMARY_FILE
from workflows.evaluation.tune import run_tuning
from workflows.files.prediction_names import VOLUMES_FILE, map_name, report_name
from workflows.files.run_folder import CURVES, MODEL, TUNED_SETTINGS_FILE
from workflows.image_files.nifti_files import load_image
from workflows.phantom.phantom import generate_dataset
from workflows.pictures.prediction_picture import draw_prediction
from workflows.prediction.predict import predict
from workflows.splits.datalist import read_datalist
from workflows.training.train import train

CASES = 12


def run_demo(out: Path) -> None:
    """Generate a small data set, train, choose the post-processing, evaluate, predict one patient and draw below `out`.

    A step whose result is there is skipped.
    """
    data, run, scores, prediction = out / "data", out / "run", out / "evaluation", out / "prediction"
    complete = len(list(data.glob("BraTS20_Training_*/*_seg.nii.gz"))) == CASES
    _step("1/6 generating data", data, lambda: generate_dataset(data, cases=CASES, size="small"), complete)
    trained = (run / "finished").exists()
    _step("2/6 training", run, lambda: _train(data, run), trained)
    tuned, weights = run / TUNED_SETTINGS_FILE, {"checkpoint": str(run / MODEL)}
    _step("3/6 choosing post-processing", tuned, lambda: run_tuning([], weights), tuned.exists())
    evaluation = {**weights, "output_dir": str(scores)}
    _step("4/6 evaluating", scores, lambda: run_evaluation([], evaluation), (scores / SUMMARY_FILE).exists())
    folder = Path(read_datalist(run / "split.json", data)["testing"][0]["flair"]).parent
    seg = prediction / folder.name / map_name(folder.name)
    named = {**weights, "patient_dir": str(folder), "output_dir": str(prediction)}
    _step("5/6 predicting one patient", seg, lambda: predict([], named), (prediction / VOLUMES_FILE).exists())
    picture = seg.with_name(f"{folder.name}.png")
    draw = lambda: draw_prediction(folder, seg, picture, STUDY_MODALITIES, "phantom")  # noqa: E731
    _step("6/6 drawing", picture, draw, picture.exists())
    _say_where_to_look(run, scores, seg, picture)


def _step(name: str, result: Path, work: Callable[[], object], done: bool) -> None:
    print(f"{name}: {f'{result} is there, skipped' if done else result}", flush=True)
    if not done:
        work()


def _train(data: Path, run: Path) -> None:
    train(["demo"], {"dataset_dir": str(data), "run_dir": str(run)}, resume=True)
    (run / "finished").touch()


def _say_where_to_look(run: Path, scores: Path, seg: Path, picture: Path) -> None:
    summary = json.loads((scores / SUMMARY_FILE).read_text(encoding="utf-8"))
    means = ", ".join(f"{region} {summary['mean_dice'][region]:.3f}" for region in REGIONS)
    print(f"\nDone (phantom data). Mean Dice of {summary['cases']} test cases on whole volumes: {means}")
    print(f"  label map    {seg}  {load_image(seg).shape}")
    print(f"  report       {seg.with_name(report_name(seg.parent.name))}  (open it in a browser)")
    print(f"  picture      {picture}")
    print(f"  scores       {scores / SCORES_FILE}")
    print(f"  curves       {run / CURVES}; more by  tensorboard --logdir {run}")
