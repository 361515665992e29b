"""The guides as a site: what mkdocs shows besides docs/, and, where mkdocs is installed, the site itself, every link followed."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
import yaml

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

import docs_pages


def navigation() -> set[str]:
    """The pages that the menu names."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    return {page for part in yaml.safe_load(text)["nav"] for pages in part.values() for page in pages}


def test_the_menu_has_every_guide() -> None:
    assert navigation() == {path.name for path in (ROOT / "docs").glob("*.md")} | set(docs_pages.PAGES)
    assert "/site/" in (ROOT / ".gitignore").read_text().splitlines()


def test_links_out_of_the_guides_lead_to_pages_of_the_site() -> None:
    text = "[a](../recipes/demo.toml) [b](recipe.md#x) [c](../CONTRIBUTING.md) [d](https://example.org/x) [e](absent.md)\n\n```text\n[f](../README.md)\n```\n| `a\\|b` |\n"
    assert docs_pages.moved(text, "docs/recipes.md") == (
        "[a](files/recipes/demo.toml.md) [b](recipe.md#x) [c](contributing.md) [d](https://example.org/x) [e](absent.md)\n\n```text\n[f](../README.md)\n```\n| `a|b` |\n"
    )
    assert docs_pages.moved("[a](docs/splits.md) [b](tests/test_gates.py)", "README.md") == "[a](splits.md) [b](files/tests/test_gates.py.md)"  # fmt: skip
    page = docs_pages.page_of("recipes/demo.toml")
    assert page.startswith("# recipes/demo.toml\n\n```toml\n")
    assert (ROOT / "recipes" / "demo.toml").read_text() in page
    assert "- `tiny.toml`" in docs_pages.page_of("recipes/base").splitlines()
    assert len(docs_pages.linked()) >= 40


class Page(HTMLParser):
    """The links of a page, what can be jumped to, and what it fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        self.fetched += [found[name] for name in ("src", "href") if name in found and tag in ("img", "script", "link")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built by scripts/docs."""
    places = [os.environ.get("MEDRECIPES_MKDOCS", ""), str(ROOT / ".venv-docs" / "bin" / "mkdocs"), str(Path(sys.executable).with_name("mkdocs"))]  # fmt: skip
    mkdocs = next((place for place in places if place and Path(place).exists()), None)
    if mkdocs is None:
        pytest.skip("mkdocs is not installed: pip install --no-deps -r requirements/checks.txt")
    folder = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "docs"), "build", "-q", "--site-dir", str(folder)],
        env={**os.environ, "MEDRECIPES_MKDOCS": mkdocs}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_link_of_the_site_leads_somewhere_and_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) >= 60
    followed, broken = 0, []
    for path, page in pages.items():
        assert not [address for address in page.fetched if address.startswith(("http:", "https:", "//"))], path
        for link in page.links:
            if "://" in link or link.startswith("mailto:"):
                continue
            place, anchor = urldefrag(unquote(link))
            target = (path.parent / place).resolve() if place not in ("", ".") else path
            target = target / "index.html" if target.is_dir() else target
            followed += 1
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].anchors):
                broken.append(f"{path.relative_to(site)} -> {link}")
    assert followed > 2000
    assert broken == []


def test_the_first_page_is_the_readme_and_code_in_tables_has_no_backslash(site: Path) -> None:
    assert "prove their chat template, loss mask, split and score" in (site / "index.html").read_text(encoding="utf-8")
    assert "FILE|FOLDER|OWNER/NAME" in (site / "commands.html").read_text(encoding="utf-8")
