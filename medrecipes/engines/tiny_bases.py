"""Small bases built on the spot, so that the demo and the tests train the real thing without downloading one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer

from medrecipes.core.files import digest, stage, write_text
from medrecipes.engines.bases import TINY_CONTEXT, Base
from medrecipes.engines.kernels import varlen_attention
from medrecipes.engines.opening import auto_class
from medrecipes.engines.tiny_tokenizers import CODE, TINY, Family, Size, chat_template, learned, parts, require, save


def _gemma3(**text: Any) -> Any:
    """Gemma 3 as it is published from 4B on: with eyes, which training on text leaves alone."""
    ids = {name: text.pop(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    eyes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 56,
    }
    return transformers.Gemma3Config(text_config={**text, **ids}, vision_config=eyes, mm_tokens_per_image=4, **ids)


def _config(spec: Family) -> Callable[..., Any]:
    """What makes the config of a family."""
    config: Callable[..., Any] = {"Gemma3Config": _gemma3}.get(spec.config) or getattr(transformers, spec.config)
    return config


def build(family: str, texts: Sequence[str], seed: int, size: Size = TINY) -> Base:
    """The base of a family for these training texts, from the store when it was built before."""
    spec, chat = require(family, texts), chat_template(family)
    more = [asdict(size)] if size != TINY else []
    key = digest(["tiny", CODE, chat, family, seed, list(texts), transformers.__version__, torch.__version__, *more])

    def make(folder: Path) -> dict[str, Any]:
        train, dev = parts(texts, size)
        tokenizer = learned(spec, train, size)
        save(spec, tokenizer, folder)
        write_text(folder / "chat_template.jinja", chat)
        with _few_threads():
            model, history = _pretrain(spec, tokenizer, train, dev, seed, size)
        model.save_pretrained(folder)
        return {"family": family, "parameters": model.num_parameters(), "dev_loss": history}

    folder = stage(f"tiny-{family}", key, make)
    return Base(str(folder), folder)


@contextmanager
def _few_threads() -> Iterator[None]:
    """Two threads at most, for products so small that more only wait for one another; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _pretrain(
    spec: Family, tokenizer: Tokenizer, train: Sequence[str], dev: Sequence[str], seed: int, size: Size
) -> tuple[Any, list[tuple[int, float]]]:
    """Next-token training on plain text until the base's own dev loss stops falling; the best weights are kept."""
    torch.manual_seed(seed)
    ids = {name: tokenizer.token_to_id(token) for name, token in spec.named.items()}
    config = _config(spec)(
        vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=TINY_CONTEXT,
        bos_token_id=ids.get("bos_token"), eos_token_id=ids["eos_token"], pad_token_id=ids.get("pad_token"),
        **(size.shape | spec.settings),
    )  # fmt: skip
    device = torch.device(size.device)
    model = (
        auto_class({"model_type": config.model_type})
        .from_config(config, dtype=torch.float32, attn_implementation=varlen_attention.exact(config.to_dict()))
        .to(device)
    )
    rows, dev_rows = (_windows(spec, tokenizer, texts, size.window).to(device) for texts in (train, dev))

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
            loss: torch.Tensor = model(input_ids=batch, labels=batch).loss
        return loss

    optimiser = torch.optim.AdamW(model.parameters(), size.peak_rate, weight_decay=0.1, betas=(0.9, 0.95), fused=True)
    best, best_weights, history = math.inf, {}, []
    for step, batch in enumerate(_batches(rows, seed, size.rows), 1):
        for group in optimiser.param_groups:
            group["lr"] = size.peak_rate * min(1, step / size.warmup) * (1 - 0.9 * step / size.max_steps)
        loss_of(batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step % size.eval_every == 0:
            with (
                torch.no_grad()
            ):  # in parts, as the logits of all rows at once may not fit; each part weighs by its rows
                parts = dev_rows.split(max(size.rows, 64))
                dev_loss = sum(float(loss_of(part)) * len(part) for part in parts) / len(dev_rows)
            history.append((step, dev_loss))
            if dev_loss < best:
                best, best_weights = dev_loss, {name: value.clone() for name, value in model.state_dict().items()}
        worse = len(history) > size.patience and best < min(loss for _, loss in history[-size.patience :])
        if step >= size.max_steps or worse:
            break
    model.load_state_dict(best_weights)
    model.to("cpu")
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=ids.get("bos_token"), eos_token_id=ids["eos_token"]
    )
    return model, history


def _windows(spec: Family, tokenizer: Tokenizer, texts: Sequence[str], window: int) -> torch.Tensor:
    """All texts one after the other, each between its BOS, if it has one, and EOS, cut into rows."""
    stream: list[int] = []
    bos, eos = (int(tokenizer.token_to_id(spec.named.get(name, "")) or 0) for name in ("bos_token", "eos_token"))
    for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False):
        stream += [*([bos] if spec.opens else []), *encoding.ids, eos]
    length = min(window, len(stream))
    return torch.tensor([stream[i : i + length] for i in range(0, len(stream) - length + 1, length)])


def _batches(rows: torch.Tensor, seed: int, size: int) -> Iterator[torch.Tensor]:
    """Shuffled batches, for ever."""
    shuffle = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(rows), generator=shuffle)
        for start in range(0, len(rows), size):
            yield rows[order[start : start + size]]
