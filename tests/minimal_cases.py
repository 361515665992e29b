"""Runs examples/minimal.py whole and holds its ids, labels and figure against the library's; prints them as JSON."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

from transformers import AutoTokenizer

from medrecipes.data.records import Conversation
from medrecipes.engines import tiny_bases
from medrecipes.engines.bases import open_base
from medrecipes.rendering.chat_template import ChatTemplate
from tests.conftest import ROOT

if __name__ == "__main__":
    spec = importlib.util.spec_from_file_location("minimal", ROOT / "examples" / "minimal.py")
    assert spec
    assert spec.loader
    minimal = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(minimal)
    minimal.EPOCHS, minimal.BATCH = 1, 4  # enough to see that it learns
    # and on a base that knows little yet
    tiny_bases.build = partial(tiny_bases.build, size=replace(tiny_bases.TINY, max_steps=40))
    before, after = minimal.main()
    train, test = minimal.read_rows()
    base = minimal.base_folder(train)
    tokenizer, template = (
        AutoTokenizer.from_pretrained(base),
        ChatTemplate("mistral-v1", open_base(base, "main").tokenizer),
    )
    rows = [*train, *test]
    ours = [(e.input_ids, e.labels) for e in template.examples(
        Conversation.of(str(i), row["focus_area"], row["question"], row["answer"]) for i, row in enumerate(rows)
    )]  # fmt: skip
    theirs = [minimal.render(tokenizer, row) for row in rows]
    print(json.dumps({
        "rows": len(rows), "same": sum(a == b for a, b in zip(ours, theirs, strict=True)),
        "shared subjects": len({r["focus_area"] for r in train} & {r["focus_area"] for r in test}),
        "before": before, "after": after, "finite": math.isfinite(after), "lines": len(Path(minimal.__file__).read_text().splitlines()),
    }))  # fmt: skip
