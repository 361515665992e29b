"""vLLM's choices beside the engine's, token by token: `python -m tests.vllm_cases RUN` prints them as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from medrecipes.evaluation.finished_run import open_run
from medrecipes.release.export import held_out_prompts
from medrecipes.release.export.parity import GREEDY, TIE, spoken

PROMPTS = 12


def main(folder: Path) -> dict[str, Any]:
    """The share of tokens that both choose, and of those that are that or as likely, by the measure of exports."""
    run = open_run(folder)
    recipe = run.pinned(run.own)
    engine: Any
    engine, template = run.open_model(recipe, run.adapter())
    from medrecipes.engines.generation import vllm_backend

    prompts = [ids for _, ids in held_out_prompts(recipe, template)][:PROMPTS]
    found = {}
    for name in ("base", "tuned"):
        if name == "base":
            with engine.base():
                reference = spoken(engine.model, template, prompts)
        else:
            reference = spoken(engine.model, template, prompts)
        save = None if name == "base" else engine.save
        # vLLM reads what the engine answered, and is asked at each place what it would have said
        places = [[*row.prompt, *row.answer[:n]] for row in reference for n in range(len(row.answer))]
        one = GREEDY.__class__(1, 0.0, 1.0, 1.0, 0)
        asked = vllm_backend.Asked(places, one, template.stop_ids)
        chosen = vllm_backend.answers(recipe, engine.source, engine.dtype, engine.device, asked, save)
        choices, same, near = iter(chosen.ids), 0, 0
        for row in reference:
            for likely in row.likely:
                [choice] = next(choices)
                same += int(choice == int(likely.argmax()))
                near += float(likely[choice]) >= float(likely.max()) - TIE
        found[name] = {
            "tokens": len(places), "same": same / len(places), "near": near / len(places), "version": chosen.version,
        }  # fmt: skip
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
