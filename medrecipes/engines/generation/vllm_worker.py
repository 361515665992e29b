"""What answers in vLLM's own environment: a script of its own that knows nothing of this package; reads job.json, writes answers.json."""

from __future__ import annotations

import json
from typing import Any


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Ids in, ids out, the stop token included where one came."""
    import vllm
    from vllm.lora.request import LoRARequest

    llm = vllm.LLM(**job["engine"])
    # ignore_eos: only the stop tokens of training end an answer
    sampling = [
        vllm.SamplingParams(**job["sampling"], **more, ignore_eos=True, detokenize=False) for more in job["each"]
    ]
    prompts = [{"prompt_token_ids": ids} for ids in job["prompts"]]
    lora = LoRARequest("tuned", 1, job["adapter"]) if job["adapter"] else None
    answers = []
    for output in llm.generate(prompts, sampling, lora_request=lora, use_tqdm=False):
        [said] = output.outputs
        ids = list(said.token_ids)
        if said.finish_reason == "stop" and isinstance(said.stop_reason, int) and ids[-1:] != [said.stop_reason]:
            ids.append(said.stop_reason)
        answers.append(ids)
    return {"answers": answers, "version": vllm.__version__}


def main() -> None:
    """The job of this folder."""
    with open("job.json", encoding="utf-8") as file:
        job = json.load(file)
    found = answer(job)
    with open("answers.json", "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":  # vLLM's own processes read this file too
    main()
