"""Whether data may be passed on, by the short name of the licence that its owner states."""

from __future__ import annotations

import re
from typing import Literal

# by SPDX's names; what forbids changes forbids a dataset that was cleaned and split too
OPEN = re.compile(
    r"cc0-1\.0|cc-by(-nc)?(-sa)?-[1-4]\.0|mit|mit-0|apache-2\.0|bsd-[23]-clause|isc|0bsd|unlicense|odbl-1\.0|odc-by-1\.0|pddl-1\.0|"
    r"cdla-(permissive-[12]|sharing-1)\.0",
    re.IGNORECASE,
)
CLOSED = re.compile(r"cc-by(-nc)?-nd-[1-4]\.0|proprietary|all rights reserved", re.IGNORECASE)


def passed_on(licence: str) -> Literal["yes", "no", "unknown"]:
    """What a licence says of passing on; of one that is not known here nobody can tell."""
    return "yes" if OPEN.fullmatch(licence) else "no" if CLOSED.fullmatch(licence) else "unknown"
