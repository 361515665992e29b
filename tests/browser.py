"""Pages in a real browser: headless Chromium, as narrow or wide, light or dark as a test asks, and what axe-core finds in them."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run --hide-scrollbars"
)
NO_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to look at the page with")
DARK = "--blink-settings=preferredColorScheme=0"
POLICY = re.compile(r'<meta http-equiv="content-security-policy"[^>]*>\n?')
AXE = """<script>
const tell = found => parent.document.title = JSON.stringify(found);
axe.run(document, {resultTypes: ["violations"]}).then(
  done => tell({violations: done.violations.map(v => ({id: v.id, impact: v.impact, nodes: v.nodes.slice(0, 3).map(n => n.html.slice(0, 120))})), passes: done.passes.length}),
  error => tell({error: String(error)}));
</script>"""


def browse(address: str, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """What Chromium makes of an address: its document on standard output, its log on standard error."""
    command = [str(CHROMIUM), *FLAGS.split(), f"--user-data-dir={profile}", *flags, "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def look(html: str, probe: str, width: int, profile: Path, *flags: str) -> dict[str, Any]:
    """What a probe, a script that sets the title of its parent to JSON, sees of a page of this width.

    The page's own policy would let no script of a test run; it has a test of its own.
    """
    # a browser's window is at least 500 wide; a frame is as narrow as it is told
    page = POLICY.sub("", html).replace("</body>", f"{probe}</body>")
    profile.mkdir(exist_ok=True)
    frame = profile / "frame.html"
    frame.write_text(f'<body style="margin:0"><iframe style="border:0;width:{width}px;height:1600px" srcdoc="{escape(page)}">', encoding="utf-8")  # fmt: skip
    done = browse(frame.as_uri(), profile, f"--window-size={width},1600", "--virtual-time-budget=20000", *flags)
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert title, done.stderr[-500:]
    found: dict[str, Any] = json.loads(title[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return found


def errors(html: str, profile: Path, *flags: str) -> list[str]:
    """What a page as it stands writes into the browser's console, and what its policy refuses."""
    profile.mkdir(exist_ok=True)
    (profile / "page.html").write_text(html, encoding="utf-8")
    done = browse((profile / "page.html").as_uri(), profile, "--enable-logging=stderr", "--v=0", *flags)
    assert done.stdout.startswith("<!DOCTYPE html>")
    return [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def axe() -> str:
    """axe-core, from the package of the registry that brings it; without it the test is skipped."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("axe-core is not installed: pip install --no-deps axe-playwright-python")
    return (Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


def require_accessible(html: str, profile: Path, widths: Sequence[int] = (400, 1280)) -> None:
    """No finding of axe-core that is serious or critical, light and dark; everything folded away is opened first."""
    script = axe().replace("</script", "<\\/script")
    opened = "<script>for (const d of document.querySelectorAll('details')) d.open = true;</script>"
    for width in widths:
        for name, flags in (("light", ()), ("dark", (DARK,))):
            found = look(html, f"{opened}<script>{script}</script>{AXE}", width, profile / f"{width}-{name}", *flags)
            assert found["passes"] >= 10, found
            grave = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
            assert grave == [], (width, name, grave)
