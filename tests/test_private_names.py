"""Where a library has a private name no longer, a line reports what is slower, and the run goes on."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
import transformers

from medrecipes.engines import unsloth_private
from medrecipes.engines.kernels import torch_private, varlen_attention
from medrecipes.engines.trainer import trainer_private
from tests.conftest import ROOT

TORCH = re.compile(r"torch\._[a-z]|torch\.ops\.\w+\._[a-z]|_model_mapping\b")


def test_only_one_file_knows_the_private_names_of_torch() -> None:
    files = sorted((ROOT / "medrecipes").rglob("*.py"))
    found = {path.name for path in files if TORCH.search(path.read_text(encoding="utf-8"))}
    # it names the error that torch's compiler raises, where torch is there at all
    assert found == {"errors.py"}
    assert "torch.ops.aten" in (ROOT / "medrecipes/engines/kernels/torch_private.py").read_text(encoding="utf-8")


def test_many_tensors_are_copied_without_the_kernel_that_copies_them_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch_private._gone.cache_clear()
    values = [torch.arange(3.0), torch.ones(2)]
    for known in (True, False):
        places = [torch.zeros(3), torch.zeros(2)]
        torch_private.copy_all(places, values)
        copies = torch_private.clone_all(values)
        for copied in (places, copies):
            assert [tensor.tolist() for tensor in copied] == [[0.0, 1.0, 2.0], [1.0, 1.0]]
        assert copies[0].data_ptr() != values[0].data_ptr()
        torch_private.add_all(copies, values)
        assert [tensor.tolist() for tensor in copies] == [[0.0, 2.0, 4.0], [2.0, 2.0]]
        assert (capsys.readouterr().err == "") is known
        for name in ("_foreach_copy", "_foreach_mul", "_foreach_add"):
            monkeypatch.setattr(torch_private, name, None)
    torch_private.copy_all(places, values)
    assert capsys.readouterr().err == ""  # said once


def test_without_the_kernel_for_packed_sequences_there_is_no_variable_length_attention(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch_private._gone.cache_clear()
    monkeypatch.setattr(torch_private, "flash_forward", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(varlen_attention, "has_varlen", lambda width: True)
    assert not varlen_attention.available(torch.bfloat16)
    assert capsys.readouterr().err.endswith("has no variable-length flash attention: rows are padded, and padding costs time and memory\n")  # fmt: skip


TRAINER = re.compile(r"\btrainer\._[a-z]|\bsuper\(\)\._[a-z]|def (_maybe_log_save_evaluate|_get_train_sampler)\b")


def test_few_files_know_the_private_names_of_transformers_trainer() -> None:
    files = sorted((ROOT / "medrecipes").rglob("*.py"))
    found = {path.relative_to(ROOT / "medrecipes/engines/trainer").as_posix() for path in files if TRAINER.search(path.read_text(encoding="utf-8"))}  # fmt: skip
    # what steps in for a method of it must stand in the trainer's class
    assert found == {"trainer_private.py", "async_logging.py", "chat.py", "tags.py"}


def test_a_trainer_without_a_private_method_trains_on_and_a_line_says_what_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, lost in trainer_private.LOST.items():
        trainer_private.known.cache_clear()
        assert trainer_private.known(name)
        trainer_private.known.cache_clear()
        monkeypatch.delattr(transformers.Trainer, name)
        assert not trainer_private.known(name)
        assert not trainer_private.known(name)
        [line] = capsys.readouterr().err.splitlines()
        assert line.endswith(f" has no Trainer.{name}: {lost}")
    trainer = SimpleNamespace()
    trainer_private.take_no_step(trainer)
    assert vars(trainer) == {}
    trainer_private.known.cache_clear()


UNSLOTH = re.compile(r"""["'.]_unsloth_|_TORCH_VARLEN|attention_dispatch""")


def test_only_one_file_knows_what_unsloth_keeps_to_itself() -> None:
    files = sorted((ROOT / "medrecipes").rglob("*.py"))
    assert [path.name for path in files if UNSLOTH.search(path.read_text(encoding="utf-8"))] == ["unsloth_private.py"]


@pytest.mark.parametrize(
    ("has", "chosen", "said"),
    [
        ({"_TORCH_VARLEN_ATTN": None}, "one kernel", ""),
        ({"_TORCH_VARLEN_ATTN": "its own"}, "one kernel", ""),
        ({}, "row by row", "this Unsloth has no place for torch's kernel: padding-free rows attend one after the other, which is slower"),
        ({"found": "xformers"}, "xformers", ""),
        ({"found": "flash"}, "flash-attention", ""),
        (None, "row by row", "this Unsloth does not say what it attends with ("),
    ],
)  # fmt: skip
def test_what_unsloth_attends_with(
    has: dict[str, str | None] | None, chosen: str, said: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found = SimpleNamespace(SDPA="sdpa", FLASH_VARLEN="flash", **(has or {}))
    if has is not None:
        found.select_attention_backend = lambda use_varlen: has.get("found", "sdpa")
    monkeypatch.setattr("importlib.import_module", lambda name: found)
    monkeypatch.setattr(varlen_attention, "available", lambda dtype: True)
    monkeypatch.delenv("UNSLOTH_TORCH_VARLEN", raising=False)
    assert unsloth_private.choose_attention(torch.bfloat16).value == chosen
    assert said in capsys.readouterr().err
    if has and "_TORCH_VARLEN_ATTN" in has:  # its own stays
        ours = has["_TORCH_VARLEN_ATTN"] is None
        assert (found._TORCH_VARLEN_ATTN is varlen_attention.varlen_attn) is ours


def test_unsloths_mark_of_layers_is_taken_off_once() -> None:
    layers = [SimpleNamespace(), SimpleNamespace(_unsloth_skip_checkpoint=True)]
    assert unsloth_private.recompute_all(layers)
    assert not unsloth_private.recompute_all(layers)
    assert vars(layers[1]) == {}


@pytest.mark.parametrize(("capability", "learns", "has"), [((8, 9), 128, True), ((8, 9), 256, False), ((9, 0), 256, True), ((7, 5), 64, False)])  # fmt: skip
def test_wide_heads_are_not_learned_by_a_kernel_that_cannot(
    capability: tuple[int, int], learns: int, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *_: capability)
    monkeypatch.setattr("torch.backends.cuda.is_flash_attention_available", lambda: True)
    assert varlen_attention.available(torch.bfloat16, learns) is has
    assert varlen_attention.available(torch.bfloat16) is (capability >= (8, 0))  # answering asks for no gradient
