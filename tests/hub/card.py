"""What the Hub checks of a README's metadata before it takes a commit, as far as this project's cards go."""

from __future__ import annotations

import re
from typing import Any

import yaml

# the Hub's own list is longer; these are the ones that occur around medical bases and data
LICENCES = {
    "apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "gpl-3.0", "openrail", "unknown", "other",
    "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "gemma",
}  # fmt: skip
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
Problems = list[dict[str, str]]


def card_data(text: str) -> dict[str, Any] | None:
    """The metadata at the head of a README."""
    match = re.match(r"---\n(.*?)\n---(\n|$)", text, re.S)
    return yaml.safe_load(match[1]) if match else None


def check_card(text: str, kind: str) -> tuple[Problems, Problems]:
    """Errors, which refuse the commit, and warnings, which do not."""
    try:
        data = card_data(text)
    except yaml.YAMLError as error:
        return [{"message": f"Unable to parse the YAML metadata ({type(error).__name__})"}], []
    if data is None:
        return [], [{"message": "empty or missing yaml metadata in repo card"}]
    if not isinstance(data, dict):
        return [{"message": "the metadata must be a table"}], []
    return [{"message": f'"{key}" with value {value!r} is not valid.'} for key, value in _wrong(data, kind)], []


def _wrong(data: dict[str, Any], kind: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    if "license" in data and data["license"] not in LICENCES:
        found.append(("license", data["license"]))
    for key in ("base_model", "datasets"):
        values = data.get(key, [])
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str) or not HUB_ID.fullmatch(value):
                found.append((key, value))
    for key in ("tags", "task_categories", "size_categories"):
        if not isinstance(data.get(key, []), list):
            found.append((key, data[key]))
    for position, model in enumerate(data.get("model-index", [])):
        for result in model.get("results", [{}]):
            if not {"task", "dataset", "metrics"} <= set(result) or not {"name", "type"} <= set(result["dataset"]):
                found.append((f"model-index[{position}].results", result))
    return found
