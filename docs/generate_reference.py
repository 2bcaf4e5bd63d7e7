"""MkDocs hook: the pages of the reference that follow from the code, and those that lie outside docs/.

Nothing here is written to disk, so nothing can go out of date. MkDocs calls `on_config`, `on_files` and
`on_page_markdown`; all else is plain Python and is tested without MkDocs (tests/docs).
"""

from __future__ import annotations

import importlib
import inspect
import json
import os.path
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_type_hints

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "bundle" / "configs"
SENTENCES = ROOT / "docs" / "reference" / "settings.json"
SCHEMA = ROOT / "docs" / "summary.schema.json"
BASES = {
    "train": "training",
    "inference": "prediction",
    "evaluate": "`evaluate`",
    "tune": "`tune`",
    "figures": "`figures`",
}
"""The configurations that run by themselves or by a command of their own; all others are overlays."""
NO_SETTINGS = {"imports", "_meta_"}
INPUTS = ("transforms.inputs.BrainCube", "transforms.inputs.AxialWindow")
"""What the setting `input` may be."""
ARGUMENT = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8,}.*)*)", re.MULTILINE)
STATISTICS = "#/$defs/statistics"

OUTSIDE = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "reference/bundle.md": "bundle/docs/README.md",
    "reference/starter-weights.md": "bundle/models/README.md",
}
"""Pages of the site that are files outside docs/."""
PYTHON = "reference/python"
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^()\s]+)\)")


def on_config(config: Any) -> None:
    """Put the pages of the Python reference where mkdocs.yml says `reference/python`."""
    pages = [{title: page} for page, (title, _) in python_pages().items()]
    config["nav"] = _replaced(config["nav"], PYTHON, pages)


def on_files(files: Any, config: Any) -> None:
    """Add the pages that are no files in docs/."""
    from mkdocs.structure.files import File

    for page, text in generated_pages().items():
        files.append(File.generated(config, page, content=text))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make the links of a page lead to pages of the site."""
    name = page.file.src_uri
    if name == "index.md":  # it has no neighbours to list beside it
        page.meta["hide"] = ["navigation"]
    return relink(markdown, OUTSIDE.get(name, f"docs/{name}"), name)


def generated_pages() -> dict[str, str]:
    """The text of every page that is no file in docs/, by its path there."""
    return {
        **{page: (ROOT / file).read_text(encoding="utf-8") for page, file in OUTSIDE.items()},
        "reference/commands.md": commands_page(),
        "reference/settings.md": settings_page(),
        "reference/summary.md": schema_page(),
        **{page: text for page, (_, text) in python_pages().items()},
    }


def relink(text: str, source: str, page: str) -> str:
    """Links as the site needs them; what is not part of the site becomes its path in the repository.

    Args:
        source: the file that `text` comes from, relative to the repository.
        page: its path on the site.
    """
    pages = {file: name for name, file in OUTSIDE.items()}

    def leads_to(match: re.Match[str]) -> str:
        mark, words, target = match.groups()
        file, hash_sign, anchor = target.partition("#")
        if "://" in target or not file:
            return match[0]
        path = os.path.normpath(os.path.join(os.path.dirname(source), file))  # noqa: PTH118, PTH120
        inside = pages.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if inside is None or (ROOT / path).is_dir():
            return f"`{path}`" if words.strip("`/") in path else f"{words} (`{path}`)"
        relative = os.path.relpath(inside, os.path.dirname(page) or ".")  # noqa: PTH120
        return f"{mark}[{words}]({relative}{hash_sign}{anchor})"

    return LINK.sub(leads_to, text)


def commands_page() -> str:
    """Every command with its arguments and options, from the typer application itself."""
    import typer

    from workflows.cli import app

    group = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "This page is made from the program; `brats-unet COMMAND --help` shows the same on the terminal.",
        "",
        "Hyphens and underscores in names are the same. The exit status is 0 if all went well, 1 if something must be "
        "mended (one line says what), and 2 if the command was typed wrongly.",
        "",
        "Commands marked with \\* also take [settings](settings.md) by their names, after the options: "
        "`--max_epochs 6`.",
    ]
    by_panel: dict[str, list[tuple[str, Any]]] = {}
    functions = {each.name or str(each.callback.__name__): each.callback for each in app.registered_commands}
    for name, command in group.commands.items():
        by_panel.setdefault(command.rich_help_panel, []).append((name, command))
    for panel, commands in by_panel.items():
        lines += ["", f"## {panel}"]
        for name, command in commands:
            lines += ["", *_command(name, command, get_type_hints(functions[name]))]
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any, hints: Mapping[str, Any]) -> Iterator[str]:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    required = [f"{parameter.opts[0]} {_placeholder(parameter)}" for parameter in options if parameter.required]
    usage = " ".join(["brats-unet", name, *(p.metavar or p.name.upper() for p in arguments), *required, "[OPTIONS]"])
    star = " \\*" if command.context_settings.get("allow_extra_args") else ""
    yield from (f"### {name}{star} {{ #{name} }}", "", _sentence(command.help), "")
    yield from ("```", usage, "```", "", "| name | what | default |", "| --- | --- | --- |")
    for parameter in arguments:
        yield _row(f"`{parameter.metavar or parameter.name.upper()}`", parameter.help, "")
    for parameter in options:
        flags = [flag for flag in (*parameter.opts, *parameter.secondary_opts) if not _same_twice(flag, parameter.opts)]
        choices = _choices(hints[parameter.name])
        words = (
            f"{parameter.help} One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else parameter.help
        )
        yield _row("<br>".join(f"`{flag}`" for flag in flags), words, _default(parameter))


def _choices(hint: Any) -> list[str]:
    """The values of an option that takes one of a few."""
    kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and issubclass(kind, StrEnum)]
    return [choice.value for kind in kinds for choice in kind]


def _same_twice(flag: str, flags: Iterable[str]) -> bool:
    """Whether the hyphened spelling of a flag is listed as well."""
    return "_" in flag and flag.replace("_", "-") in flags


def _placeholder(parameter: Any) -> str:
    return "DIR" if parameter.name.endswith("dir") else str(parameter.name).upper()


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = getattr(parameter.default, "value", parameter.default)
    if value is None or value == "" or value is False or callable(value):
        return ""
    return "on" if value is True else f"`{value}`"


def settings_page() -> str:
    """Every top-level key of the configurations: its default, the overlays that change it, and its sentence."""
    lines = [
        "# Settings",
        "",
        "This page is made from the files in `bundle/configs`, one sentence for each setting in "
        "`docs/reference/settings.json`, and for the arguments of `input` the docstrings of their classes.",
        "",
        "Any setting can be overridden by its name: `brats-unet train --max_epochs 6`, or `--max_epochs 6` on MONAI's "
        "own command line. A part of a setting is named after `#`: `--network_def#width 16`. A value is written as in "
        "Python: `True`, `None`, `\"['axial']\"`. [Networks and overlays](../how-to/networks-and-overlays.md) says how "
        "to use an overlay.",
        "",
        "A single default holds for training and prediction alike. `…` stands for an expression or an object; the file "
        "has the whole of it.",
    ]
    keys = settings_of_configurations()
    overlays = {file.stem: _keys(file) for file in _files() if file.stem not in BASES}
    for overlay, values in overlays.items():
        if values.get("based_on", overlay) != overlay:
            lines += ["", f"`{overlay}` also changes all that `{values['based_on']}` changes."]
    for title, sentences in json.loads(SENTENCES.read_text(encoding="utf-8")).items():
        lines += ["", f"## {title}", "", "| setting | default | overlays that change it | what it does |"]
        lines += ["| --- | --- | --- | --- |"]
        for name, sentence in sentences.items():
            changed = {overlay: values[name] for overlay, values in overlays.items() if name in values}
            lines.append(_row(f"`{name}`", _defaults(keys[name]), _changes(changed), sentence))
        if "input" in sentences:
            for target in INPUTS:
                lines += ["", *_input_table(target, overlays)]
    return "\n".join(lines) + "\n"


def _input_table(target: str, overlays: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The arguments of a kind of input: names and defaults from its signature, sentences from its docstring."""
    module, _, name = target.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    text = inspect.getdoc(kind) or ""
    summary, sentences = text.partition("\n")[0], documented_arguments(text)
    yield from (f"### {name} {{ #{name.lower()} }}", "", f"`{target}`: {_first_lower(summary)}", "")
    yield from ("| argument | default | overlays that change it | what it is |", "| --- | --- | --- | --- |")
    for argument, parameter in inspect.signature(kind).parameters.items():
        default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        given = {overlay: found for overlay, values in overlays.items() if (found := _given(values, target, argument))}
        changed = {overlay: found[0] for overlay, found in given.items() if found != [default]}
        yield _row(f"`input#{argument}`", _shown(default), _changes(changed), _first_upper(sentences[argument]))


def documented_arguments(docstring: str) -> dict[str, str]:
    """What the `Args` of a docstring say of each argument; one entry may be of several."""
    section = docstring.partition("Args:\n")[2].partition("\nRaises:")[0]
    return {name: _sentence(text) for names, text in ARGUMENT.findall(section) for name in names.split(", ")}


def _given(overlay: Mapping[str, Any], target: str, argument: str) -> list[Any]:
    """What an overlay gives an argument of this kind of input; nothing if it leaves it, or is of the other kind."""
    definition = overlay.get("input", {})
    if definition.get("_target_", INPUTS[0]) != target or argument not in definition:
        return []
    return [definition[argument]]


def settings_of_configurations() -> dict[str, dict[str, Any]]:
    """By the name of a setting, its value in each configuration that has it; of overlays, what no other file has."""
    found: dict[str, dict[str, Any]] = {}
    bases = [CONFIGS / f"{name}.json" for name in BASES]
    for file in bases:
        for name, value in _keys(file).items():
            found.setdefault(name, {})[file.stem] = value
    for file in (file for file in _files() if file not in bases):
        for name, value in _keys(file).items():
            if name not in found:
                found[name] = {file.stem: value}
    return {name: values for name, values in found.items() if name not in NO_SETTINGS}


def _files() -> list[Path]:
    return [file for file in sorted(CONFIGS.glob("*.json")) if file.name != "metadata.json"]


def _keys(file: Path) -> dict[str, Any]:
    """The settings that a file gives; of one that it only adds to or reaches into, an object of what it reaches."""
    keys: dict[str, Any] = {}
    for key, value in json.loads(file.read_text(encoding="utf-8")).items():
        top, _, inner = key.lstrip("+").partition("#")
        keys[top] = value if key == top else {**(keys.get(top) or {}), inner: value}
    return keys


def _defaults(values: Mapping[str, Any]) -> str:
    shown = {base: _shown(value) for base, value in values.items()}
    if {"train", "inference"} <= shown.keys() and len(set(shown.values())) == 1:
        return next(iter(shown.values()))
    lines, last = [], None
    for base, text in shown.items():
        if text != last:
            lines.append(f"{BASES.get(base, f'`{base}`')}: {text}")
        last = text
    return "<br>".join(lines)


def _changes(values: Mapping[str, Any]) -> str:
    """What each overlay sets, overlays with the same value together."""
    overlays: dict[str, list[str]] = {}
    for overlay, value in values.items():
        whole = not isinstance(value, dict) or "_target_" in value
        overlays.setdefault(_shown(value) if whole else "a part", []).append(overlay)
    return "<br>".join(f"{', '.join(names)}: {value}" for value, names in overlays.items())


def _shown(value: Any) -> str:
    """A value as a user types it; an object by its name, an expression as `…` where it is long."""
    if isinstance(value, dict):
        return f"`{value['_target_'].rpartition('.')[2]}` …" if "_target_" in value else "…"
    if isinstance(value, str) and value[:1] in ("$", "%"):
        return "…"
    if value == "":
        return "empty"
    if isinstance(value, list) and any(isinstance(item, str) and item[:1] in "@$%" for item in value):
        return "…"
    return f"`{value!r}`" if not isinstance(value, str) else f"`{value}`"


def schema_page() -> str:
    """The entries of `summary.json`, from its JSON schema."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    statistics = schema["$defs"]["statistics"]
    lines = [
        "# summary.json",
        "",
        f"`brats-unet evaluate` writes `summary.json`. {_sentence(schema['description'])}",
        "",
        "This page is made from the [JSON schema](../summary.schema.json). `*` stands for any name, such as that of a "
        "region or a case. *Statistics* are an object with the entries listed at the end.",
        "",
        "| entry | type | what |",
        "| --- | --- | --- |",
        *(_row(f"`{path}`", kind, words) for path, kind, words in _entries(schema, schema, "")),
        "",
        "## Statistics",
        "",
        "| entry | type | what |",
        "| --- | --- | --- |",
        *(_row(f"`{path}`", kind, words) for path, kind, words in _entries(statistics, schema, "")),
    ]
    return "\n".join(lines) + "\n"


def _entries(node: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    named = {**node.get("properties", {})}
    if isinstance(node.get("additionalProperties"), dict) and path:
        named["*"] = node["additionalProperties"]
    for name, given in named.items():
        entry = {**_resolved(given, schema), **given}
        here = f"{path}.{name}".lstrip(".")
        if given.get("$ref") == STATISTICS:
            yield here, "[statistics](#statistics)", str(given.get("description", ""))
            continue
        yield here, _kind(entry), str(entry.get("description", ""))
        yield from _entries(entry, schema, here)
        if "properties" in (item := _resolved(entry.get("items", {}), schema)):
            yield from _entries(item, schema, f"{here}[]")


def _resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return dict(node)
    found: Any = schema
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return _resolved(found, schema)


def _kind(entry: Mapping[str, Any]) -> str:
    if "enum" in entry:
        return " or ".join(f"`{json.dumps(choice)}`" for choice in entry["enum"])
    if "anyOf" in entry:
        return "array or null"
    return str(entry.get("type", ""))


def python_pages() -> dict[str, tuple[str, str]]:
    """Title and text of the pages of the Python reference, by path: a page per package and per room of `workflows`."""
    folders = [ROOT / "transforms", ROOT / "networks", *sorted((ROOT / "workflows").glob("[!_]*/__init__.py"))]
    pages = {}
    for folder in (folder.parent if folder.is_file() else folder for folder in folders):
        name = ".".join(folder.relative_to(ROOT).parts)
        modules = [f"::: {name}.{file.stem}" for file in sorted(folder.glob("[!_]*.py"))]
        pages[f"{PYTHON}/{name}.md"] = (name, "\n\n".join([f"# {name}", *modules]) + "\n")
    return pages


def _replaced(nav: Any, name: str, pages: list[dict[str, str]]) -> Any:
    if isinstance(nav, list):
        return [_replaced(item, name, pages) for item in nav]
    if isinstance(nav, dict):
        return {title: _replaced(item, name, pages) for title, item in nav.items()}
    return pages if nav == name else nav


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


def _row(*cells: str | None) -> str:
    return "| " + " | ".join(_sentence(cell).replace("|", "\\|") for cell in cells) + " |"
