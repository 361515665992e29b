"""A finished run on several GPUs: what the leader opens and asks, the others open and answer."""

from __future__ import annotations

import pytest

from tests.conftest import Cli, work_out

ASKED = ["base answers [1]", "base answers [2]", "tuned evaluates [3, 4, 5]"]


def test_a_run_is_opened_by_all_or_by_none_and_answered_by_all() -> None:
    leader = ["the adapter of GPU 1 is torn", "nats [3.0, 4.1, 5.0]", "opened 0", "opened 0", *ASKED]
    assert work_out("tests.judged_cases", processes=2).splitlines() == [*leader, "opened 1", "opened 1", *ASKED]


@pytest.mark.parametrize("command", ["eval", "verify", "publish"])
def test_more_cards_than_there_are_are_one_line(command: str, cli: Cli) -> None:
    done = cli(command, "tests", "--gpus", "99")
    assert done.returncode == 2
    assert done.stderr.startswith("--gpus 99: this machine has ")
    assert done.stderr.count("\n") == 1


def test_a_suite_goes_on_one_card(cli: Cli) -> None:
    done = cli("eval", "tests", "--gpus", "2", "--suite", "lm-eval:medical")
    assert done.returncode == 2
    assert done.stderr == "--suite: the harness asks on one GPU; leave --gpus out, or the suite\n"
