"""The memory of one process that predicts many patients, measured as each is finished."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
from soak_processes import finish, small_phantoms, start, start_training

GENERATED_CASES = 8
WARM_UP_PATIENTS = 20
LARGEST_GROWTH_MB = 20.0
"""From patient 20 to the last, by the fitted line: less than two of the volumes that each patient brings as float32."""
FINISHED = re.compile(r"^\S+ (\d+)/(\d+) \S+: WT ", re.MULTILINE)

Samples = list[tuple[int, float, float]]


def soak_predict(folder: Path, patients: int, report: bool, checkpoint: Path | None) -> str:
    """Print the process's memory along the patients; give what is wrong with it, or nothing."""
    generated = small_phantoms(folder / "phantoms", GENERATED_CASES)
    checkpoint = checkpoint or one_epoch(generated, folder)
    many, out, output = folder / f"patients_{patients}", folder / f"predicted_{patients}", folder / "predict.txt"
    link_patients(generated, many, patients)
    shutil.rmtree(out, ignore_errors=True)
    output.unlink(missing_ok=True)
    pages = "--report" if report else "--no-report"
    process = start(output, "predict", many, "--out", out, "--checkpoint", checkpoint, pages, "--device", "cpu")
    samples = sample(process, output)
    finish(process, output)
    written = len(list(out.glob("*/*_seg.nii.gz")))
    print_memory(samples, pages)
    if written != patients:
        return f"{written} label maps of {patients} patients"
    growth_mb = slope(samples) * (patients - WARM_UP_PATIENTS)
    print(f"\ngrowth from patient {WARM_UP_PATIENTS} to {patients}: {growth_mb:+.1f} MB (at most {LARGEST_GROWTH_MB})")
    return f"memory grew by {growth_mb:.1f} MB" if growth_mb > LARGEST_GROWTH_MB else ""


def one_epoch(data: Path, folder: Path) -> Path:
    """Weights of a network that has seen each slice once."""
    run, output = folder / "run", folder / "train.txt"
    if not (run / "model.pt").exists():
        finish(start_training(data, run, 1, output), output)
    return run / "model.pt"


def link_patients(generated: Path, folder: Path, patients: int) -> None:
    """A folder of many patients with ids of their own, whose files are hard links to the generated ones in turn."""
    cases = sorted(path for path in generated.iterdir() if path.is_dir())
    for index in range(patients):
        case, name = cases[index % len(cases)], f"Phantom_{index + 1:03d}"
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in case.glob("*.nii.gz"):
            link = folder / name / file.name.replace(case.name, name)
            if not link.exists():
                os.link(file, link)


def sample(process: subprocess.Popen[bytes], output: Path) -> Samples:
    """(patient, resident memory in MB, seconds since the start) as each patient is reported finished."""
    samples: Samples = []
    started, seen = time.monotonic(), psutil.Process(process.pid)
    while process.poll() is None:
        done = len(FINISHED.findall(output.read_text()))
        if done > (samples[-1][0] if samples else 0):
            samples.append((done, resident_mb(seen), time.monotonic() - started))
        time.sleep(0.02)
    return samples


def resident_mb(process: psutil.Process) -> float:
    """Of the process and what it has started."""
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6


def slope(samples: Samples) -> float:
    """MB per patient: the least-squares line after the warm-up."""
    number, memory, _ = np.array([sample for sample in samples if sample[0] >= WARM_UP_PATIENTS]).T
    return float(np.polyfit(number, memory, 1)[0])


def print_memory(samples: Samples, pages: str) -> None:
    """Print the memory after some of the patients, and how it grew."""
    by_patient = {patient: memory for patient, memory, _ in samples}
    last = samples[-1][0]
    shown = sorted({n for n in (1, 10, WARM_UP_PATIENTS, *range(50, last, 50), last) if n in by_patient})
    print(f"| patient ({pages}) | {' | '.join(map(str, shown))} |")
    print("| --- |" + " ---: |" * len(shown))
    print(f"| resident memory, MB | {' | '.join(f'{by_patient[n]:.0f}' for n in shown)} |")
    seconds = (samples[-1][2] - samples[0][2]) / max(1, last - samples[0][0])
    after = [memory for patient, memory, _ in samples if patient >= WARM_UP_PATIENTS]
    print(f"\n{1000 * slope(samples):+.1f} kB per patient from patient {WARM_UP_PATIENTS} on (least squares),", end=" ")
    print(f"{min(after):.0f} to {max(after):.0f} MB; {seconds:.2f} s per patient; {len(samples)} samples")
