"""What `data.exclude` may name: a benchmark, a benchmark with a copy of it on this machine, or a file of questions."""

from __future__ import annotations

from pathlib import Path

BENCHMARKS = ("medqa", "medmcqa", "pubmedqa", "mmlu_medical", "headqa")


def benchmark_entry(entry: str) -> tuple[str, Path | None]:
    """An entry as benchmark and path, e.g. `medqa`, `medqa=copies/medqa.jsonl`, or `mine.txt`, which names no benchmark."""
    name, equals, path = entry.partition("=")
    if name not in BENCHMARKS:
        return "", Path(entry)
    return name, Path(path) if equals else None
