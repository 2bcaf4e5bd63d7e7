"""Which cases are one patient, as far as names tell: all of a patient's cases belong in one section of a split."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from workflows.data.case import Case
from workflows.messages.errors import ConfigurationError, DatasetError

PATIENTS_BY_DATA_SET = {
    "BraTS 2015": r"brats_[a-z0-9]+_pat\d+",
    "BraTS 2021": r"BraTS2021_\d{5}",
    "BraTS 2023 and later": r"BraTS-(?:[a-z]+-\d{5}|MEN-RT-\d{4})",
    "BraTS-Reg": r"BraTSReg_\d{3}",
    "RHUH-GBM": r"RHUH-\d{4}",
    "TCGA-GBM, TCGA-LGG": r"TCGA-[a-z0-9]{2}-[a-z0-9]{4}",
    "UCSD-PTGBM": r"UCSD-PTGBM-\d{4}",
    "UCSF-BMSR": r"\d{6}(?=[a-z]$)",
    "UCSF-PDGM": r"UCSF-PDGM-\d{3,4}",
    "UPENN-GBM": r"UPENN-GBM-\d{5}",
    "BIDS": r"sub-[a-z0-9]+(?=_[a-z]+-|$)",
}
"""What a patient is called there; what follows in a case's id is the time point.

The sources are in docs/how-to/patients.md. A new scheme is one more entry here and one row there. The ids of
UCSF-ALPTDG, MU-Glioma-Post and LUMIERE need none, since they end in words: `time2`, `Timepoint_2`, `week-044`.
"""

_COUNTED = r"time(?:[-_ ]?point)?|tp|visit|ses(?:sion)?|follow[-_ ]?up|fu|weeks?|wk|months?|days?|years?"
_THERAPY = r"op(?:erative)?|surgery|surgical|treatment|c?rt|radiotherapy|chemo"
_AROUND = rf"(?:pre|post|intra)(?:[-_ ]?(?:{_THERAPY}))?|baseline|follow[-_ ]?up|fu"
_CLEAR = rf"(?:(?:{_COUNTED})[-_ ]?\d+(?:[-_.]\d+)?[a-z]?|(?:{_AROUND})[-_ ]?\d*)"
"""Names of time points that patients are never numbered by."""
_SCAN = r"(?:scan|exam|study|mri?)[-_ ]?\d{1,3}[a-z]?"
_STAGE = r"bl|initial|first|second|third|early|late|before|after|recurrence|progression|relapse"
_DATE = (
    r"(?:(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])|[0-3]\d[-_.][0-3]\d[-_.](?:19|20)\d\d)"
    r"(?:[-_.T]?\d{4,6})?"
)
_SHORT = r"(?:[tvwmdy]|mo|yr)[-_ ]?\d{1,3}[a-z]?|\d+[-_ ]?(?:d|days?|w|weeks?|m|mo|months?|y|years?)"
_TIME = rf"(?:{_CLEAR}|{_SCAN}|{_STAGE}|{_DATE}|{_SHORT})"
"""All names of time points: behind a patient's number they are clear enough."""
_WORDS = r"(?:[-_. ][a-z]+)*"
"""What was done to the images may follow, as in `…_Timepoint_1_brain`; a number there would be a patient's."""


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_KNOWN = _pattern(rf"(?P<patient>{'|'.join(PATIENTS_BY_DATA_SET.values())})[a-z]?(?:[-_. ].*)?")
_PATIENT_FOLDER = _pattern(r"(?:sub|subj|subject|pat|patient)(?:[-_ ]?id)?[-_ ]?\d+")
_NUMBER_AND_TIME = _pattern(rf"(?P<patient>.*\d.*?)(?:[-_. ]+{_TIME}|(?<=\d){_CLEAR}){_WORDS}")
_WORD_AND_TIME = _pattern(rf"(?P<patient>\D*[a-z]\D*?)[-_. ]+{_CLEAR}{_WORDS}")
_CLEAR_TIME = _pattern(rf"{_CLEAR}{_WORDS}")
_SESSION = _pattern(rf"(?:{_CLEAR}|{_SCAN}|{_STAGE}|[tv]\d)(?:[-_. ]+{_TIME})*{_WORDS}|{_DATE}.*")
"""A whole name, without a patient's number before it: a patient may be called `T01` or `W12`."""
_LAST_PART = _pattern(r"(?P<stem>(?:.*[-_. ])?[^-_. ]*\d[^-_. ]*)[-_. ](?P<end>[^-_. ]+)")
_LAST_LETTER = _pattern(r"(?P<stem>.*\d)(?P<end>[a-z])")


def patients_of(cases: Sequence[Case], root: Path, pattern: str | None = None) -> dict[Case, str]:
    """The patient of each case.

    Args:
        root: the data folder.
        pattern: what the user says: a regular expression, looked for in the id and then in the path below `root`. Its
            group `patient`, or else its first group, or else all that it matches is the patient.
    Raises:
        ConfigurationError: if `pattern` is no regular expression.
        DatasetError: naming the first case in which it finds nothing.
    """
    if pattern is not None:
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise ConfigurationError(f"--patient {pattern}: is no regular expression ({error}).") from error
        return {case: _found_by(expression, case, root) for case in cases}
    cases_in = Counter(case.folder for case in cases)
    return {
        case: patient_of(case.id, case.folder.relative_to(root).parts, alone=cases_in[case.folder] == 1)
        for case in cases
    }


def _found_by(expression: re.Pattern[str], case: Case, root: Path) -> str:
    path = case.source(case.modalities[0]).relative_to(root).as_posix()
    group = "patient" if "patient" in expression.groupindex else min(expression.groups, 1)
    for text in (case.id, path):
        if (match := expression.search(text)) and match[group]:
            return match[group]
    raise DatasetError(
        f"{case.id}: --patient {expression.pattern} finds no patient in this id, nor in its path {path}; mend the "
        "expression, or leave the case out."
    )


def patient_of(case_id: str, folders: Sequence[str] = (), alone: bool = True) -> str:
    """The patient of one case, by its id and by the folders that it lies in; the id itself where nothing else shows.

    Args:
        folders: from the data folder inwards.
        alone: whether no other case lies in the innermost folder. A folder `baseline` with many cases holds many
            patients.
    """
    for name in (case_id, *reversed(folders)):
        if match := _KNOWN.fullmatch(name):
            return match["patient"]
    for folder in reversed(folders):
        if _PATIENT_FOLDER.fullmatch(folder):
            return folder
    patient = _without_time_point(case_id)
    says_whose = _has_number(patient) or not folders or folders[-1] == case_id  # else it is `scan_pre`, of any patient
    if patient != case_id and says_whose and not _CLEAR_TIME.fullmatch(patient):
        return patient
    return _patient_by_session_folder(case_id, folders, alone) or case_id


def _has_number(name: str) -> bool:
    return any(character.isdigit() for character in name)


def _without_time_point(name: str) -> str:
    while match := _NUMBER_AND_TIME.fullmatch(name) or _WORD_AND_TIME.fullmatch(name):
        name = match["patient"]
    return name


def _patient_by_session_folder(case_id: str, folders: Sequence[str], alone: bool) -> str | None:
    """`P07` of what lies in `P07/ses-2/anat`, and of the case `pre` in `P07`; None without a session."""
    names = list(folders)
    while names and not _has_number(names[-1]) and not _SESSION.fullmatch(names[-1]):
        names.pop()  # such as BIDS's anat
    in_session = bool(names) and _SESSION.fullmatch(names[-1]) is not None
    if not in_session:
        names = list(folders)
    if not _SESSION.fullmatch(case_id) and not (in_session and alone):
        return None
    while names and _SESSION.fullmatch(names[-1]):
        names.pop()
    if not names or not (_has_number(names[-1]) or _CLEAR_TIME.fullmatch(case_id)):
        return None  # a folder such as `training` holds many patients
    if re.fullmatch(r"\d{1,3}", names[-1]):
        return "/".join(names)  # another folder may hold another patient with the same number
    return _without_time_point(names[-1])


def look_alikes(patients: Collection[str]) -> str | None:
    """A warning where names of patients differ in their last part only, in a way that suggests time points.

    It suggests them where several names have the same beginning and the same few endings come again and again. Where
    there are more endings than beginnings, as in `site1_001` … `site2_040`, they number the patients.
    """
    names_of: dict[str, dict[str, str]] = defaultdict(dict)  # by beginning and ending
    for name in sorted(set(patients)):
        match = None if _KNOWN.fullmatch(name) else _LAST_PART.fullmatch(name) or _LAST_LETTER.fullmatch(name)
        beginning, ending = (match["stem"], match["end"]) if match else (name, "")
        names_of[beginning][ending] = name
    alike = [names for names in names_of.values() if len(names) > 1]
    times = Counter(ending for names in names_of.values() for ending in names if ending)
    endings = {ending for names in alike for ending in names if ending}
    if not alike or max(times.values()) < 2 or len(endings) > len(names_of) + 1:
        return None
    pairs = ", ".join(" and ".join(list(names.values())[:2]) for names in alike[:3])
    by_letter = all(_LAST_LETTER.fullmatch(name) for names in alike for name in names.values())
    example = r"(.*\d)[A-Za-z]" if by_letter else "(.+)[-_. ]"
    return (
        f"{pairs} count as different patients, though their names look like time points of one. If they are, tell "
        f"split and audit by --patient 'REGEX' what the patient is, for example  --patient '{example}'."
    )
