"""Preprocessed cases come from disk bit for bit, and never when anything they follow from has changed."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import monai
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Lambdad, RandFlipd, Transform

from tests.data.faults import FAULTS, make_faults, remove, without_root_rights
from tests.data.test_faults import LABEL_VALUES, sound  # noqa: F401  # the fixture
from tests.data.test_hostile import Bomb
from tests.support import REPOSITORY, Started, WritePatient, listing
from tests.training.test_resume import small_disk
from tests.training_data.test_training_data import BYTES, memory_for
from transforms.inputs import AxialWindow
from transforms.pipelines import training_preprocessing
from workflows.data.find_cases import find_cases
from workflows.data.reader import CaseReader
from workflows.messages.errors import ConfigurationError, DatasetError
from workflows.training_data import stored_cases
from workflows.training_data.slice_dataset import NamedCases, SliceDataset
from workflows.training_data.stored_cases import IN_USE_S, StoredCases, files_key, packed, read_case, settings_key

DEFAULT: dict[str, Any] = {
    "size_px": 32,
    "slice_range": (60, 135),
    "normalisation": "zscore",
    "soft_labels": False,
    "label_values": LABEL_VALUES,
    "crop_to_brain": False,
    "neighbours": 0,
    "whole_brain": False,
}
CHANGES: list[dict[str, Any]] = [
    {"size_px": 40},
    {"slice_range": (60, 134)},
    {"slice_range": (61, 135)},
    {"normalisation": "window_maximum"},
    {"soft_labels": True},
    {"label_values": {0: 0, 1: 1, 2: 2, 3: 3}},
    {"crop_to_brain": True},
    {"neighbours": 1},
    {"whole_brain": True},
]
CASE = {
    "image": torch.arange(48, dtype=torch.float16).reshape(3, 1, 4, 4),
    "label": torch.arange(48, dtype=torch.uint8).reshape(3, 1, 4, 4),
}
calls: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def none_called():
    calls.clear()


class Numbered(Transform):
    """A case as slices that hold the numbers in its file; what it is called with is counted outside of it."""

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        calls[data["case"]] += 1
        values = torch.tensor(json.loads(Path(data["image"]).read_text())).reshape(-1, 1, 1, 1).expand(-1, 2, 2, 2)
        return {"case": data["case"], "image": values.half(), "label": (values[:, :1] % 4).to(torch.uint8)}


class Replacing(Numbered):
    """Another scan takes the place of the one that has just been read."""

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        result = super().__call__(data)
        Path(data["image"]).write_text("[0]")
        return result


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def numbers(tmp_path: Path) -> list[dict[str, Any]]:
    """Four cases of four slices, each in a file of as many bytes."""
    cases = []
    for number in range(4):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps([10 * number + 10 + position for position in range(4)]))
        cases.append({"case": str(number), "image": str(file)})
    return cases


def chain_with(**changes: Any) -> Compose:
    options = {**DEFAULT, **changes}
    of_labels = {name: options.pop(name) for name in ("soft_labels", "label_values")}
    return training_preprocessing(AxialWindow(**options), reader=CaseReader(), **of_labels)


def assert_same_case(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    for name in ("image", "label"):
        assert type(one[name]) is type(other[name]) is torch.Tensor
        assert one[name].dtype == other[name].dtype and torch.equal(one[name], other[name])


def said(caplog: pytest.LogCaptureFixture, level: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == level]


# ---------------------------------------------------------------------------------------------------------------------
# What comes back


@pytest.mark.parametrize(
    "changes", [{}, {"soft_labels": True}, {"neighbours": 1, "whole_brain": True, "crop_to_brain": True}]
)
def test_samples_are_the_same_to_the_last_bit_without_a_folder_when_it_is_filled_and_when_it_is_read(
    changes: dict[str, Any], phantom_cases: list[dict[str, Any]], store: Path
):
    def dataset(**options: Any) -> SliceDataset:
        return SliceDataset(
            phantom_cases, chain_with(**changes), AxialWindow(neighbours=changes.get("neighbours", 0)), **options
        )

    without, filled, read = dataset(), dataset(cache_dir=store), dataset(cache_dir=store)
    for number in range(3):
        assert_same_case(without.case(number), filled.case(number))
        assert_same_case(without.case(number), read.case(number))
    batches = [each.__getitems__([0, 17, len(without) - 1]) for each in (without, filled, read)]
    assert all(torch.equal(one[key], other[key]) for one, other in pairwise(batches) for key in one)


def test_a_case_is_preprocessed_once_and_the_folders_size_is_said(
    numbers: list[dict[str, Any]], store: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            SliceDataset(numbers, Numbered(), cache_dir=store, cache_gb=3)
    assert calls == dict.fromkeys("0123", 1)
    filled, read = (line for line in said(caplog, "INFO") if line.startswith(f"{store}: "))
    assert filled.startswith(f"{store}: 0 preprocessed cases read, 4 added; it holds 4, 0.00 of at most 3 GB")
    assert read.startswith(f"{store}: 4 preprocessed cases read, 0 added; it holds 4")


def test_patients_that_do_not_fit_in_memory_are_read_from_the_folder_in_every_epoch(
    numbers: list[dict[str, Any]], store: Path, monkeypatch: pytest.MonkeyPatch
):
    memory_for(monkeypatch, 1)
    dataset = SliceDataset(numbers, Numbered(), expected_bytes_per_case=BYTES, cache_dir=store)
    assert dataset.cached_cases == 1
    dataset._uncached.cache_clear()
    assert [int(dataset.case(number)["image"][0, 0, 0, 0]) for number in range(4)] == [10, 20, 30, 40]
    assert calls == dict.fromkeys("0123", 1)


def test_the_data_folder_stays_as_it_was(phantom_dir: Path, phantom_cases: list[dict[str, Any]], store: Path):
    before = listing(phantom_dir)
    SliceDataset(phantom_cases[:1], chain_with(), cache_dir=store)
    assert listing(phantom_dir) == before
    assert len(list(store.iterdir())) == 1


@pytest.mark.parametrize("inside", [".", "store"])
def test_a_folder_within_the_data_is_refused_before_any_work(
    inside: str, phantom_dir: Path, tmp_path: Path, command: Callable[..., Started]
):
    before, folder = listing(phantom_dir), phantom_dir / inside
    ended = command("train", "--dataset-dir", phantom_dir, "--out", tmp_path / "run", "--cache-dir", folder)
    said = f"error: cache_dir {folder}: lies in the data folder, which is never written to; name another.\n"
    assert (ended.status, ended.stderr) == (1, said)
    assert listing(phantom_dir) == before and not (tmp_path / "run").exists()


# ---------------------------------------------------------------------------------------------------------------------
# What a case follows from: settings and code


def test_every_setting_of_the_preprocessing_has_a_key_of_its_own():
    keys = [settings_key(chain_with(**changes)) for changes in ({}, *CHANGES)]
    assert len(set(keys)) == len(keys)
    assert settings_key(chain_with()) == keys[0]


def test_the_key_is_the_same_in_another_process_and_after_use(phantom_cases: list[dict[str, Any]]):
    chain = chain_with()
    before = settings_key(chain)
    chain(phantom_cases[0])
    assert settings_key(chain) == before
    code = "import tests.training_data.test_stored_cases as t; print(t.settings_key(t.chain_with()))"
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(REPOSITORY)}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert printed.stdout.strip() == before, printed.stderr


def test_another_version_of_a_library_or_of_the_format_has_another_key(monkeypatch: pytest.MonkeyPatch):
    keys = {settings_key(chain_with())}
    for library, name in ((monai, "__version__"), (torch, "__version__"), (stored_cases, "FORMAT")):
        with monkeypatch.context() as other:
            other.setattr(library, name, "0")
            keys.add(settings_key(chain_with()))
    assert len(keys) == 4


@pytest.mark.parametrize(
    "file", ["transforms/geometry.py", "workflows/image_files/nifti_files.py", "workflows/image_files/itk_files.py"]
)
def test_a_changed_line_of_code_has_another_key_wherever_the_code_lies(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for package in ("transforms", "workflows"):
        shutil.copytree(REPOSITORY / package, tmp_path / package)
    here = stored_cases._digest_of_code([])
    monkeypatch.setattr(stored_cases, "_CODE", tmp_path)
    assert stored_cases._digest_of_code([]) == here
    with (tmp_path / file).open("a") as code:
        code.write("# changed\n")
    assert stored_cases._digest_of_code([]) != here


def test_a_cached_case_stays_valid_when_a_class_has_another_colour(
    numbers: list[dict[str, Any]], store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for package in ("transforms", "workflows"):
        shutil.copytree(REPOSITORY / package, tmp_path / package)
    SliceDataset(numbers, Numbered(), cache_dir=store)
    colours = tmp_path / "workflows" / "pictures" / "colours.py"
    before = colours.read_text()
    colours.write_text(before.replace("Colour(213, 94, 0)", "Colour(255, 0, 0)"))
    assert colours.read_text() != before
    monkeypatch.setattr(stored_cases, "_CODE", tmp_path)
    SliceDataset(numbers, Numbered(), cache_dir=store)
    assert calls == dict.fromkeys("0123", 1)


@pytest.mark.parametrize(
    ("step", "name"), [(RandFlipd("image"), "RandFlipd is random"), (abs, "abs in the preprocessing"), (None, "")]
)
def test_what_has_no_fixed_result_or_no_comparable_settings_is_refused(step: Any, name: str, store: Path):
    steps = [Numbered(), step or Lambdad("image", lambda image: image)]
    with pytest.raises(ConfigurationError, match=r"^cache_dir: .*; leave cache_dir out\.$") as refusal:
        StoredCases(Compose(steps), store, 1)
    assert name.partition(" ")[0] in str(refusal.value) and "\n" not in str(refusal.value)
    assert not store.exists()


# ---------------------------------------------------------------------------------------------------------------------
# What a case follows from: its files


def test_each_change_of_a_file_has_another_key(tmp_path: Path, write_patient: WritePatient):
    patient = write_patient()
    flair, t1ce = map(Path, patient["image"])
    keys = [files_key(patient)]

    def note() -> None:
        keys.append(files_key(patient))
        assert len(set(keys)) == len(keys)

    before = flair.stat()
    os.utime(flair)
    note()
    content = bytearray(flair.read_bytes())
    content[-1] ^= 1
    flair.write_bytes(content)
    os.utime(flair, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time of writing
    note()
    flair.chmod(0)
    note()
    flair.chmod(0o644)
    for one, other in ((flair, tmp_path / "x"), (t1ce, flair), (tmp_path / "x", t1ce)):
        one.rename(other)  # the two change places
    note()
    Path(patient["label"]).write_bytes(b"")
    note()


def test_modalities_and_their_order_and_the_channel_of_a_file_have_keys_of_their_own(write_patient: WritePatient):
    patient = write_patient()
    flair, t1ce = patient["image"]
    images = [[flair, t1ce], [t1ce, flair], [flair], [f"{flair}#0", t1ce], [f"{flair}#1", t1ce]]
    assert len({files_key({**patient, "image": image}) for image in images}) == len(images)


def test_a_changed_scan_is_preprocessed_again_and_alone(numbers: list[dict[str, Any]], store: Path):
    SliceDataset(numbers, Numbered(), cache_dir=store)
    Path(numbers[2]["image"]).write_text("[91, 92, 93, 94]")  # as many bytes as before
    dataset = SliceDataset(numbers, Numbered(), cache_dir=store)
    assert dataset.case(2)["image"][:, 0, 0, 0].tolist() == [91, 92, 93, 94]
    assert calls == {"0": 1, "1": 1, "2": 2, "3": 1}


def test_a_scan_that_is_replaced_while_it_is_read_is_not_kept(numbers: list[dict[str, Any]], store: Path):
    kept = StoredCases(Compose([Replacing()]), store, 1)
    assert len(kept(numbers[0])["image"]) == 4
    assert not store.exists()


def test_a_bad_patient_has_the_same_line_with_a_folder_every_time_and_is_not_kept(
    sound: dict[str, Path],  # noqa: F811
    store: Path,
    tmp_path: Path,
):
    chain, good, bad = chain_with(), 0, 0
    folders = make_faults(tmp_path / "data", sound)
    with without_root_rights():
        for fault in FAULTS:
            entry = first_case(folders[fault.id])
            if entry is None:
                continue
            lines = [line_of(entry, chain) for chain in (chain, *[StoredCases(chain, store, 1) for _ in range(2)])]
            assert lines[0] == lines[1] == lines[2], fault.id
            good, bad = good + (lines[0] == "handled"), bad + (lines[0] != "handled")
    remove(tmp_path / "data")
    assert good > 10 and bad > 20
    assert len(list(store.iterdir())) == good


def first_case(folder: Path) -> dict[str, Any] | None:
    try:
        case = next(case for case in find_cases(folder).cases if case.segmentation)
    except (DatasetError, StopIteration):
        return None
    if not {"flair", "t1ce"} <= case.images.keys():
        return None
    images = [str(case.images[modality]) for modality in ("flair", "t1ce")]
    return {"case": case.id, "image": images, "label": str(case.segmentation)}


def line_of(entry: dict[str, Any], chain: Callable) -> str:
    try:
        NamedCases([entry], chain, cache_rate=0)[0]
    except DatasetError as error:
        return str(error)
    return "handled"


# ---------------------------------------------------------------------------------------------------------------------
# Files that are not whole


def test_a_file_with_any_byte_changed_or_cut_off_is_never_read_as_something_else(tmp_path: Path):
    file = tmp_path / "a.case.npz"
    whole = packed(CASE)
    file.write_bytes(whole)
    assert_same_case(read_case(file) or {}, CASE)
    refused = 0
    for position in range(len(whole)):
        file.write_bytes(whole[:position])
        assert read_case(file) is None
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        if (case := read_case(file)) is None:
            refused += 1
        else:
            assert_same_case(case, CASE)  # what was changed is a date or the like
    assert refused > len(whole) / 2


def test_a_damaged_file_is_replaced(numbers: list[dict[str, Any]], store: Path):
    SliceDataset(numbers, Numbered(), cache_dir=store)
    files = {file: file.read_bytes() for file in store.iterdir()}
    for file, content in files.items():
        file.write_bytes(content[: len(content) // 2])
    dataset = SliceDataset(numbers, Numbered(), cache_dir=store)
    assert calls == dict.fromkeys("0123", 2)
    assert dataset.case(3)["image"][:, 0, 0, 0].tolist() == [40, 41, 42, 43]
    assert {file: file.read_bytes() for file in store.iterdir()} == files


def test_a_pickle_in_a_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    bomb = np.empty(1, object)
    bomb[0] = Bomb()
    np.savez(tmp_path / "a.case.npz", image=bomb, label=bomb)
    assert read_case(tmp_path / "a.case.npz") is None
    with zipfile.ZipFile(tmp_path / "b.case.npz", "w") as archive:
        for name in ("image", "label"):
            archive.writestr(f"{name}.npy", pickle.dumps(Bomb()))
    assert read_case(tmp_path / "b.case.npz") is None
    assert not (tmp_path / "exploded").exists()


def test_a_file_that_unpacks_to_more_than_it_holds_is_refused(tmp_path: Path):
    content = io.BytesIO()
    np.save(content, np.zeros(2**24, np.uint8))
    with zipfile.ZipFile(tmp_path / "a.case.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("image", "label"):
            archive.writestr(f"{name}.npy", content.getvalue())
    assert read_case(tmp_path / "a.case.npz") is None


FILLING = """
import json, sys
from pathlib import Path
from tests.training_data.test_stored_cases import Numbered, SliceDataset
numbers, store = json.loads(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(25):
    for file in store.glob("[0-9a-f]*"):
        file.unlink(missing_ok=True)
    dataset = SliceDataset(numbers, Numbered(), cache_dir=store)
    assert [int(dataset.case(case)["image"][0, 0, 0, 0]) for case in range(4)] == [10, 20, 30, 40]
"""


def test_two_processes_that_fill_and_empty_one_folder_at_once_read_nothing_wrong(
    numbers: list[dict[str, Any]], store: Path
):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", FILLING, json.dumps(numbers), str(store)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[1] for process in processes] == ["", ""]  # not even a warning
    assert [process.returncode for process in processes] == [0, 0]
    SliceDataset(numbers, Numbered(), cache_dir=store)
    assert len(list(store.iterdir())) == 4


# ---------------------------------------------------------------------------------------------------------------------
# How large the folder becomes


def sizes_gb(cases: float, numbers: list[dict[str, Any]], folder: Path) -> float:
    """Room for so many of `numbers`."""
    SliceDataset(numbers[:1], Numbered(), cache_dir=folder / "measure")
    (file,) = (folder / "measure").iterdir()
    calls.clear()
    return cases * file.stat().st_size / 1e9


def age(store: Path, hours: float) -> None:
    for file in store.iterdir():
        os.utime(file, (time.time() - hours * 3600,) * 2)


def test_what_was_not_used_for_longest_makes_room(numbers: list[dict[str, Any]], store: Path, tmp_path: Path):
    room = sizes_gb(3.5, numbers, tmp_path)
    SliceDataset(numbers[:3], Numbered(), cache_dir=store, cache_gb=room)
    age(store, hours=5)
    SliceDataset(numbers[1:2], Numbered(), cache_dir=store, cache_gb=room)  # one of them is used again
    SliceDataset(numbers[3:], Numbered(), cache_dir=store, cache_gb=room)
    assert len(list(store.iterdir())) == 3
    SliceDataset(numbers[1:2], Numbered(), cache_dir=store, cache_gb=room)
    assert calls["1"] == 1  # it is still there


def test_what_is_in_use_stays_and_one_line_says_that_the_folder_is_full(
    numbers: list[dict[str, Any]], store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    room = sizes_gb(2.5, numbers, tmp_path)
    for _ in range(2):
        caplog.clear()
        dataset = SliceDataset(numbers, Numbered(), cache_dir=store, cache_gb=room)
        (warning,) = said(caplog, "WARNING")
        assert warning.startswith(f"{store}: is full of cases in use; going on without adding more.")
        assert len(list(store.iterdir())) == 2 and len(dataset) == 16
    assert sorted(calls.values()) == [1, 1, 2, 2]


def test_nothing_else_in_the_folder_is_ever_removed(numbers: list[dict[str, Any]], store: Path, tmp_path: Path):
    room = sizes_gb(1.5, numbers, tmp_path)
    store.mkdir()
    others = ["mine.npz", "mine.case.npz", ".1.partial.model.pt", "notes.txt"]
    for name in others:
        (store / name).write_bytes(bytes(10000))
    for number in range(4):
        age(store, hours=5)
        SliceDataset(numbers[number : number + 1], Numbered(), cache_dir=store, cache_gb=room)
    assert {file.name for file in store.iterdir()} > set(others)
    assert len(list(store.iterdir())) == len(others) + 1


def test_what_a_killed_process_left_half_written_is_removed_once_it_is_old(numbers: list[dict[str, Any]], store: Path):
    SliceDataset(numbers[:1], Numbered(), cache_dir=store)
    (file,) = store.iterdir()
    old, new = (store / f".{number}.partial.{file.name}" for number in (1, 2))
    for half in (old, new):
        half.write_bytes(b"half")
    os.utime(old, (time.time() - IN_USE_S - 10,) * 2)
    SliceDataset(numbers[:1], Numbered(), cache_dir=store)
    assert not old.exists() and new.exists()


def test_on_a_full_disk_one_line_is_said_and_every_sample_is_there(
    phantom_cases: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    without = SliceDataset(phantom_cases, chain_with())
    with small_disk(tmp_path / "disk", megabytes=0.6) as disk:  # a case takes 0.38 MB
        dataset = SliceDataset(phantom_cases, chain_with(), cache_dir=disk)
        assert len(list(disk.iterdir())) == 1
    assert said(caplog, "WARNING") == [f"{disk}: No space left on device; going on without adding more cases to it"]
    for number in range(3):
        assert_same_case(without.case(number), dataset.case(number))


@pytest.mark.parametrize("below", ["", "below"])
def test_a_folder_that_cannot_be_made_is_one_line_and_training_goes_on(
    below: str, numbers: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("")
    dataset = SliceDataset(numbers, Numbered(), cache_dir=tmp_path / "file" / below)
    (warning,) = said(caplog, "WARNING")
    assert warning.endswith("; going on without adding more cases to it")
    assert len(dataset) == 16 and calls == dict.fromkeys("0123", 1)


def test_a_folder_that_may_only_be_read_is_read(
    numbers: list[dict[str, Any]], store: Path, caplog: pytest.LogCaptureFixture
):
    SliceDataset(numbers[:3], Numbered(), cache_dir=store)
    half = store / f".1.partial.{next(store.iterdir()).name}"
    half.write_bytes(b"half")
    age(store, hours=5)
    store.chmod(0o555)
    with without_root_rights():
        SliceDataset(numbers[:3], Numbered(), cache_dir=store)
        assert said(caplog, "WARNING") == []
        SliceDataset(numbers, Numbered(), cache_dir=store)
    store.chmod(0o755)
    assert calls == dict.fromkeys("0123", 1)
    assert said(caplog, "WARNING") == [f"{store}: Permission denied; going on without adding more cases to it"]
