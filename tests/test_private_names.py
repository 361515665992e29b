"""Where a library has a private name no longer, a line reports what is slower, and the run goes on."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
import transformers

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


@pytest.mark.parametrize(("capability", "learns", "has"), [((8, 9), 128, True), ((8, 9), 256, False), ((9, 0), 256, True), ((7, 5), 64, False)])  # fmt: skip
def test_wide_heads_are_not_learned_by_a_kernel_that_cannot(
    capability: tuple[int, int], learns: int, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *_: capability)
    monkeypatch.setattr("torch.backends.cuda.is_flash_attention_available", lambda: True)
    assert varlen_attention.available(torch.bfloat16, learns) is has
    assert varlen_attention.available(torch.bfloat16) is (capability >= (8, 0))  # answering asks for no gradient
