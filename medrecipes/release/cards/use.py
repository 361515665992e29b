"""How to load what was released: code that runs as it stands, for the formats that are there."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medrecipes.recipe.schema import Recipe

QUESTION = "What are the symptoms of asthma?"
NOT_RUN = "Not run by this project's tests, which have no such server; the line follows its documentation."


@dataclass(frozen=True)
class Snippet:
    """A way to load it: `title`, the language of the code, the code, and what to know before."""

    title: str
    kind: str
    code: str
    note: str = ""


def snippets(
    recipe: Recipe, repo_id: str, formats: Sequence[str], *, on_hub: bool, caps: bool = False
) -> Iterator[Snippet]:
    """The snippets of the formats that are released.

    `on_hub`: whether a server can fetch the base by its name; `caps`: whether it caps what it attends with.
    """
    if recipe.task != "chat":
        yield Snippet("medrecipes", "bash", f'medrecipes tag {shlex.quote(repo_id)} "Naloxone reverses the effect of clonidine."', "" if repo_id == "." else "With a copy of the run's folder.")  # fmt: skip
        return
    messages = [*([("system", recipe.template.system)] if recipe.template.system else []), ("user", QUESTION)]
    turns = (json.dumps({"role": role, "content": content}, ensure_ascii=False) for role, content in messages)
    asked = "[\n" + "".join(f"    {turn},\n" for turn in turns) + "]"
    system = f" --system {shlex.quote(recipe.template.system)}" if recipe.template.system else ""
    base, limit = recipe.model.base, recipe.eval.longest
    how = ', attn_implementation="eager"' if caps else ""
    serve = " --trust-remote-code" if recipe.model.trust_remote_code else ""
    if recipe.model.trust_remote_code:
        how += ", trust_remote_code=True"
    if "adapter" in formats:
        yield Snippet(
            "Transformers and PEFT", "python", _plain("AutoPeftModelForCausalLM", "peft", repo_id, asked, limit, how)
        )
        yield Snippet("Unsloth", "python", _unsloth(recipe, repo_id, asked, limit))
        if on_hub:
            more = serve + (" --quantization bitsandbytes" if recipe.model.bits == 4 else "")
            yield Snippet("vLLM", "bash", f"vllm serve {shlex.quote(base)}{more} --enable-lora --max-lora-rank {_rank(recipe.lora.rank)} --lora-modules medical={shlex.quote(repo_id)}", NOT_RUN)  # fmt: skip
    for name in ("merged-16bit", "merged-4bit"):
        if name in formats:
            yield Snippet(
                "Transformers", "python", _plain("AutoModelForCausalLM", "transformers", repo_id, asked, limit, how)
            )
            more = serve + (" --quantization bitsandbytes" if name == "merged-4bit" else "")
            yield Snippet("vLLM", "bash", f"vllm serve {shlex.quote(repo_id)}{more}", NOT_RUN)
    if "gguf" in formats:
        yield Snippet("Ollama", "bash", f"ollama run hf.co/{shlex.quote(repo_id)}", NOT_RUN)
        yield Snippet("llama.cpp", "bash", f"llama-cli -hf {shlex.quote(repo_id)} --jinja{system.replace('--system', '-sys')}", NOT_RUN)  # fmt: skip


def _plain(loader: str, package: str, repo_id: str, asked: str, limit: int, how: str) -> str:
    head = f"from {package} import {loader}\nfrom transformers import AutoTokenizer, GenerationConfig\n"
    if package == "transformers":
        head = f"from transformers import {loader}, AutoTokenizer, GenerationConfig\n"
    note = "  # the usual one leaves out what this base caps" if "eager" in how else ""
    return f"""{head}
repo = "{repo_id}"
model = {loader}.from_pretrained(repo, device_map="auto"{how}){note}
tokenizer = AutoTokenizer.from_pretrained(repo)
{_answer(asked, limit)}"""


def _unsloth(recipe: Recipe, repo_id: str, asked: str, limit: int) -> str:
    return f"""from unsloth import FastLanguageModel
from transformers import GenerationConfig

repo = "{repo_id}"
model, tokenizer = FastLanguageModel.from_pretrained(
    repo, max_seq_length={recipe.data.max_tokens}, load_in_4bit={recipe.model.bits == 4}{", trust_remote_code=True" if recipe.model.trust_remote_code else ""}
)
FastLanguageModel.for_inference(model)
{_answer(asked, limit)}"""


def _answer(asked: str, limit: int) -> str:
    """The part that is the same everywhere: the template of training, and every stop token."""
    return f"""stops = GenerationConfig.from_pretrained(repo)  # ends answers where training taught to

messages = {asked}
prompt = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
).to(model.device)
output = model.generate(**prompt, generation_config=stops, max_new_tokens={limit})
answer = output[0, prompt["input_ids"].shape[1]:]
print(tokenizer.decode(answer, skip_special_tokens=True))"""


def _rank(rank: int) -> int:
    """vLLM takes only some ranks: the next one of them."""
    return next((known for known in (8, 16, 32, 64, 128, 256, 320, 512) if known >= rank), rank)
