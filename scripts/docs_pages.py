"""What mkdocs shows besides docs/: the README as the first page, CONTRIBUTING, the changelog, and every file that a page links to."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# a page of the site -> the file of the repository that it shows
PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")
# GitHub wants a bar escaped in the code of a table, Python's Markdown does not
PIPED = re.compile(r"`[^`\n]*\\\|[^`\n]*`")
BADGES = re.compile(r"^\[!\[.*\n", re.M)  # pictures that are fetched from elsewhere
FENCED = re.compile(r"^(`{3,}).*?^\1`*$", re.M | re.S)
LANGUAGES = {
    ".toml": "toml",
    ".py": "python",
    ".sh": "bash",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".json": "json",
    ".jinja": "jinja",
    ".ipynb": "json",
}
LONGEST = 100_000  # characters of a file that are shown


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that do not lie in docs/, and one for every file of the repository that some page links to."""
    from mkdocs.structure.files import File

    for page, source in PAGES.items():
        files.append(
            File.generated(
                config, page, content=moved(BADGES.sub("", (ROOT / source).read_text(encoding="utf-8")), source)
            )
        )
    for target in sorted(linked()):
        files.append(File.generated(config, shown_as(target), content=page_of(target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The links of a page of docs/ that leave it lead to pages of the site."""
    path = page.file.src_path
    return markdown if page.file.generated_by else moved(markdown, f"docs/{path}")


def moved(markdown: str, source: str) -> str:
    """The text of a file of the repository, with its links as they are from its place on the site."""
    here = next((page for page, file in PAGES.items() if file == source), source.removeprefix("docs/"))

    def turn(match: re.Match[str]) -> str:
        target = in_repository(match[2], source)
        if target is None:
            return match[0]
        place = next((page for page, file in PAGES.items() if file == target), None)
        place = place or (target.removeprefix("docs/") if target.startswith("docs/") else shown_as(target))
        return f"{match[1]}{posixpath.relpath(place, posixpath.dirname(here) or '.')}{match[3] or ''}{match[4]}"

    return outside_fences(
        markdown, lambda text: LINK.sub(turn, PIPED.sub(lambda match: match[0].replace(r"\|", "|"), text))
    )


def outside_fences(markdown: str, change: Any) -> str:
    """Change what is not in a block of code."""
    parts, at = [], 0
    for block in FENCED.finditer(markdown):
        parts += [change(markdown[at : block.start()]), block[0]]
        at = block.end()
    return "".join([*parts, change(markdown[at:])])


def in_repository(link: str, source: str) -> str | None:
    """The file or folder of the repository that a link leads to, by its path there; none for what lies elsewhere."""
    if "://" in link or link.startswith(("mailto:", "/")):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    return path if (ROOT / path).exists() else None


def linked() -> set[str]:
    """What pages link to that is no page."""
    found = set()
    for source in [*PAGES.values(), *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]:

        def look(text: str, source: str = source) -> str:
            found.update(filter(None, (in_repository(match[2], source) for match in LINK.finditer(text))))
            return text

        outside_fences((ROOT / source).read_text(encoding="utf-8"), look)
    return {target for target in found if not target.startswith("docs/") and target not in PAGES.values()}


def shown_as(target: str) -> str:
    """The page of the site that shows a file or folder of the repository."""
    return f"files/{target}.md"


def page_of(target: str) -> str:
    """A file as a page: its name and its text; of a folder, what it holds."""
    path = ROOT / target
    if path.is_dir():
        names = sorted(
            f"{entry.name}/" if entry.is_dir() else entry.name
            for entry in os.scandir(path)
            if entry.name[0] not in "._"
        )
        return "\n".join([f"# {target}/", "", *(f"- `{name}`" for name in names), ""])
    text = path.read_text(encoding="utf-8")
    cut = text[:LONGEST] + ("\n…" if len(text) > LONGEST else "")
    fence = "`" * (3 + max((len(run) for run in re.findall(r"`{3,}", cut)), default=0))
    return f"# {target}\n\n{fence}{LANGUAGES.get(path.suffix, 'text')}\n{cut}\n{fence}\n"
