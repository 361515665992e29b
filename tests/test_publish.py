"""Publishing end to end: a run whose base and data come from the Hub, released, loaded again by strangers, and verified."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from medrecipes.commands._options import FORMATS
from medrecipes.recipe.schema import Format
from tests import families
from tests.conftest import ROOT
from tests.hub import Fault, Harm, Hub, Repo, Token
from tests.shell import Done, Shell

WRITE, READ, OTHER = "hf_plantedWRITEtoken012345", "hf_plantedREADtoken012345", "hf_plantedOTHERtoken01234"
BASE, DATA, REPO = "open/Small-Mistral-bnb-4bit", "lavita/MedQuAD", "ann/small-mistral-medical"
RECIPE = """
extends = "{root}/recipes/base/tiny.toml"
[model]
base = "{base}"
[template]
name = "mistral-v1"
[data]
source = "medquad"
split = {{ train = 0.6, dev = 0.2, test = 0.2 }}
[train]
epochs = 1
warmup_steps = 0
eval_steps = 3
save_steps = 3
[eval]
rows = 6
max_new_tokens = 8
"""
# a base with the real tokenizer of the family and weights that nobody trained
MAKE_BASE = """
import torch, transformers
torch.manual_seed(1)
config = transformers.MistralConfig(vocab_size=32000, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2)
transformers.MistralForCausalLM(config).save_pretrained(folder)
result = True
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as made:
        made.store.tokens |= {WRITE: Token("ann"), READ: Token("ann", write=False), OTHER: Token("bob")}
        yield made


@pytest.fixture(scope="module")
def shell(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home = tmp_path_factory.mktemp("hf")
    # on a busy machine the Hub may take longer than the client's ten seconds
    with Shell(home, hub.environment(home, WRITE, HF_HUB_ETAG_TIMEOUT="60")) as made:
        yield made


@dataclass(frozen=True)
class Released:
    """A run, what the commands said, and the repository after each of them."""

    run: Path
    trained: Done
    shown: Done
    pushed: Done
    again: Done
    repo: Repo
    log: list[str]
    before: bool


@pytest.fixture(scope="module")
def released(hub: Hub, shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Released:
    work = tmp_path_factory.mktemp("published")
    shell.python(MAKE_BASE, folder=work / "base")
    files = {path.name: path.read_bytes() for folder in (families.folder("mistral-v1"), work / "base") for path in folder.iterdir()}  # fmt: skip
    card = b"---\nlicense: apache-2.0\n---\nA small base.\n"
    hub.store.create(BASE).put({**files, "README.md": card})
    sample = ROOT / "data/medquad_hub/train-00000-of-00001.parquet"
    hub.store.create(DATA, "dataset").put({f"data/{sample.name}": sample.read_bytes()})
    recipe = work / "small.toml"
    recipe.write_text(RECIPE.format(root=ROOT, base=BASE))
    trained = shell("run", recipe, "--runs", work / "runs")
    assert trained.code == 0, trained.err
    # the run knows its commits: what comes later to base and data changes nothing
    hub.store.repos["model", BASE].put({"config.json": b"{}"})
    hub.store.repos["dataset", DATA].put({"data/other.parquet": b"no parquet"})
    [run] = (work / "runs").iterdir()
    shown = shell("publish", run, "--tag", "v1")
    before = ("model", REPO) in hub.store.repos
    pushed = shell("publish", run, "--tag", "v1", "--push")
    assert pushed.code == 0, pushed.err
    asked = len(hub.requests)
    again = shell("publish", run, "--tag", "v1", "--push")
    return Released(run, trained, shown, pushed, again, hub.store.repos["model", REPO], hub.requests[asked:], before)


def test_without_push_a_release_is_shown_and_nothing_is_sent(released: Released) -> None:
    shown = released.shown
    assert (shown.code, shown.err) == (0, "")
    assert not released.before
    assert f"repository       {REPO} (model, private, main, tag v1)" in shown.out
    assert re.search(r"adapter_model\.safetensors +[\d.]+ kB", shown.out)
    for gate in ("licence", "personal-data", "leakage", "secrets", "pickles", "reload", "stop-tokens", "base-terms"):
        assert re.search(rf"^(gates)? +{gate} +passed$", shown.out, re.M)
    assert "            # small-mistral-medical" in shown.out  # the card
    assert shown.out.endswith("nothing pushed; --push does it\n")


def test_a_push_is_one_commit_that_is_read_back(released: Released) -> None:
    repo, out = released.repo, released.pushed.out
    assert [commit.title for commit in repo.log("main")] == [f"Release {released.run.name} (adapter)", "initial commit"]
    assert repo.private
    assert repo.resolve("v1").sha == repo.resolve("main").sha
    assert f"push             one commit, {repo.resolve('main').sha[:12]} on main" in out
    assert re.search(r"read back +14 files, the same by their hashes; 28 tensors load, the same; 2 prompts give the same ids", out)  # fmt: skip
    assert f"/{REPO}/tree/{repo.resolve('main').sha}" in out
    assert set(repo.contents()) == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "data.json", "eval/report.json",
        "generation_config.json", "loss.csv", "loss.png", "recipe.toml", "release.json", "tokenizer.json", "tokenizer_config.json",
        "trainer_stats.json",
    }  # fmt: skip


def test_the_same_release_again_is_no_commit(released: Released) -> None:
    sha = released.repo.resolve("main").sha
    assert released.again.code == 0
    assert f"push             already there, nothing pushed: {sha[:12]} on main" in released.again.out
    assert not [request for request in released.log if request.startswith(("PUT", "POST"))]


def test_the_run_remembers_its_release(released: Released) -> None:
    state = json.loads((released.run / "run.json").read_text())
    sha = released.repo.resolve("main").sha
    assert state["releases"] == [{"repo": REPO, "format": "adapter", "commit": sha, "revision": "main", "tag": "v1"}]
    assert re.fullmatch(r"\d{8}_\d{6}", state["finished_at"])


def test_nothing_of_this_machine_is_released_but_base_and_data_are_pinned(released: Released, hub: Hub) -> None:
    contents = released.repo.contents()
    words = (str(ROOT), str(released.run.parent), str(Path.home()), WRITE)
    assert not [(name, word) for name, data in contents.items() for word in words if word.encode() in data]
    base, data = hub.store.repos["model", BASE].log("main"), hub.store.repos["dataset", DATA].log("main")
    recipe = contents["recipe.toml"].decode()
    assert f'revision = "{base[1].sha}"' in recipe  # the commit before the one that came later
    assert f'revision = "{data[1].sha}"' in recipe
    assert json.loads(contents["adapter_config.json"])["revision"] == base[1].sha


STRANGER = """
from pathlib import Path
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from medrecipes.data.records import Message
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.rendering.tokenizer import Tokenizer

tuned = AutoPeftModelForCausalLM.from_pretrained(repo, revision=revision).eval()
tokenizer = AutoTokenizer.from_pretrained(repo, revision=revision)
mine = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, revision=pinned), run + "/adapter").eval()
template = ChatTemplate("mistral-v1", Tokenizer(Path(run) / "adapter"))
ids = []
for text in texts:
    asked = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True)
    ids.append((asked["input_ids"], template.prompts([[Message("user", text)]])[0]))
batch = torch.tensor([ids[0][0]])
with torch.no_grad():
    one, other = tuned(batch).logits, mine(batch).logits
    with mine.disable_adapter():
        untuned = mine(batch).logits
result = {"ids": ids, "difference": float((one - other).abs().max()), "learned": float((one - untuned).abs().max())}
"""


def test_a_stranger_gets_the_same_prompts_and_logits(released: Released, shell: Shell, hub: Hub) -> None:
    texts = ["What is asthma?", "  Two\n\nlines  ", "[INST] as text </s"]
    pinned = hub.store.repos["model", BASE].log("main")[1].sha
    found = shell.python(STRANGER, repo=REPO, revision="v1", base=BASE, pinned=pinned, run=released.run, texts=texts)
    assert len(found["ids"]) == 3
    for theirs, ours in found["ids"]:
        assert theirs == ours
    assert found["difference"] == 0.0
    assert found["learned"] > 0


def verdicts(out: str) -> dict[str, str]:
    """The table of claims: each with its verdict."""
    return dict(re.findall(r"^(\w[\w. ]*?) {2,}(ok|differs|not checked)\b", out, re.M))


# what can be worked out again of a run and of its release alike
ALIKE = {
    "files", "recipe", "split", "data.json", "training", "template", "tokenizer", "stop tokens", "adapter", "figures in the card", "card",
    "evaluation loss", "base figures",
}  # fmt: skip
CLAIMS = ALIKE | {"release.json", "example in the card", "base"}
NO_ANSWERS = {"answers": "not checked"}  # a release holds none


def test_a_release_is_verified_down_to_its_loss(released: Released, shell: Shell) -> None:
    done = shell("verify", REPO)
    assert (done.code, done.err) == (0, "")
    assert verdicts(done.out) == {**dict.fromkeys(CLAIMS, "ok"), **NO_ANSWERS}
    assert done.out.endswith("16 ok, 0 differs, 1 not checked (answers)\n")
    assert shell("verify", REPO, "--strict").code == 1


def spoil(repo: Repo, branch: str, **changes: Any) -> None:
    """A branch of the release where some files were changed, each by a function of its content."""
    repo.refs[f"refs/heads/{branch}"] = repo.resolve("v1").sha
    held = repo.contents("v1")
    names = {name.replace(".", "_"): name for name in held}
    files = {names[key]: repo.file(names[key], change(held[names[key]])) for key, change in changes.items()}
    repo.commit(branch, files, "spoiled")


def claim(files: dict[str, bytes]) -> Any:
    """release.json changed so that it claims these files."""
    import hashlib

    def change(manifest: bytes) -> bytes:
        value = json.loads(manifest)
        for name, data in files.items():
            value["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        return json.dumps(value).encode()

    return change


def test_what_was_changed_after_the_release_is_named(released: Released, shell: Shell) -> None:
    repo = released.repo
    # a file alone; a card and its hash; a template, its hash, and so on: each lie is found by another claim
    spoil(repo, "file", data_json=lambda data: data + b" ")
    better = repo.contents("v1")["README.md"].replace(b"bits per byte of answer |", b"bits per byte |")
    spoil(repo, "card", README_md=lambda data: better, release_json=claim({"README.md": better}))
    other = repo.contents("v1")["chat_template.jinja"] + b"{# #}"
    spoil(repo, "template", chat_template_jinja=lambda data: other, release_json=claim({"chat_template.jinja": other}))
    stops = b'{"bos_token_id": 1, "eos_token_id": [], "pad_token_id": 0, "do_sample": false}'
    spoil(repo, "stops", generation_config_json=lambda data: stops, release_json=claim({"generation_config.json": stops}))  # fmt: skip
    better = json.loads(repo.contents("v1")["eval/report.json"])
    better["base"]["bits_per_byte"]["value"] += 1
    flattered = json.dumps(better).encode()
    spoil(repo, "base", **{"eval/report_json": lambda data: flattered, "release_json": claim({"eval/report.json": flattered})})  # fmt: skip
    for branch, wrong in {
        "file": {"files"}, "card": {"figures in the card", "card"}, "template": {"template"}, "stops": {"stop tokens"},
        "base": {"release.json", "figures in the card", "card", "base figures"},
    }.items():  # fmt: skip
        done = shell("verify", REPO, "--revision", branch, HF_HUB_DISABLE_PROGRESS_BARS="1")
        assert done.code == 1
        found = verdicts(done.out)
        assert {what for what, verdict in found.items() if verdict == "differs"} == wrong, done.out


def test_a_run_is_verified_too(released: Released, shell: Shell, tmp_path: Path) -> None:
    done = shell("verify", released.run)
    assert (done.code, done.err) == (0, "")
    own = {"run.json", "predictions", "report", "report.md", "report.html", "answers"}
    assert verdicts(done.out) == dict.fromkeys(ALIKE | own, "ok")
    assert shell("verify", released.run, "--strict").code == 0
    copy = tmp_path / released.run.name
    shutil.copytree(released.run, copy)
    report = json.loads((copy / "eval/report.json").read_text())
    report["tuned"]["bits_per_byte"]["value"] -= 1
    (copy / "eval/report.json").write_text(json.dumps(report))
    done = shell("verify", copy)
    assert done.code == 1
    found = verdicts(done.out)
    assert {what for what, verdict in found.items() if verdict == "differs"} == {"files", "figures in the card", "report", "evaluation loss"}  # fmt: skip


def test_a_recipe_may_release_its_run_and_a_second_look_finishes_what_failed(released: Released, shell: Shell, hub: Hub, tmp_path: Path) -> None:  # fmt: skip
    runs = tmp_path / "runs"
    shutil.copytree(released.run, runs / released.run.name)
    command = ["run", released.run.parent.parent / "small.toml", "--runs", runs, "--set", "publish.push=true", "--set", "publish.repo='{user}/ner-{recipe}-{timestamp}'"]  # fmt: skip
    name = f"ann/ner-small-{json.loads((released.run / 'run.json').read_text())['finished_at']}"
    hub.faults.add(Fault(f"POST .*/{name}/commit/", Harm(status=400, body='{"error": "not today"}')))
    first = shell(*command)
    assert (first.code, first.err) == (2, f"{name}: {hub.url} did not do it (not today); the same command goes on\n")
    second = shell(*command)
    assert (second.code, second.err) == (0, "")
    assert second.out.startswith(f"finished before: {runs / released.run.name} (only its release is looked at; ")
    assert "release.json" in hub.store.repos["model", name].contents()


def test_without_a_token_nothing_begins_that_would_push(released: Released, shell: Shell, tmp_path: Path) -> None:
    command = ["run", released.run.parent.parent / "small.toml", "--runs", tmp_path / "runs", "--set", "publish.push=true"]  # fmt: skip
    done = shell(*command, HF_TOKEN="")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.endswith(": there is no token; log in with `hf auth login`, or set HF_TOKEN\n")
    assert not (tmp_path / "runs").exists()
    together = shell(*command, WORLD_SIZE="2")
    assert (together.code, together.err.count("\n")) == (2, 1)
    assert together.err.startswith("publish.push = true: several processes train together here; set it to false, ")
    shown = shell("publish", released.run, HF_TOKEN="")
    assert shown.code == 0
    assert re.match(r"note +\{user\} stays open: http\S+: there is no token; log in", shown.out)
    assert "repository       {user}/small-mistral-medical (model, private, main)" in shown.out


def test_the_token_of_hf_auth_login_is_found(released: Released, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(WRITE)
    code = "from huggingface_hub import constants\nconstants.HF_TOKEN_PATH, result = path, constants.HF_TOKEN_PATH"
    usual = shell.python(code, path=str(tmp_path / "token"))
    try:
        assert "repository       ann/small-mistral-medical" in shell("publish", released.run, HF_TOKEN="").out
    finally:
        shell.python(code, path=usual)


# --- what is refused, each in one line


def test_what_cannot_be_released_is_one_line(released: Released, shell: Shell, hub: Hub, tmp_path: Path) -> None:
    run = released.run
    hub.store.create("ann/public")
    taken = hub.store.create("ann/taken", private=True)
    taken.refs["refs/tags/v1"] = taken.put({"README.md": b"another"})
    cases = [
        (["publish", tmp_path], {}, "is neither a run folder nor a dataset that `medrecipes build` made; correct the path"),
        (["publish", run, "--push", "--repo", "ann/new"], {"HF_TOKEN": READ}, "ann/new: the token may not do this .*write token.*; use one with write access to that account"),
        (["publish", run, "--push"], {"HF_TOKEN": "hf_nobodysTOKEN0123456"}, "the Hub does not take the token .*; log in again with `hf auth login`, or correct HF_TOKEN"),
        (["publish", run, "--push", "--repo", "eve/mine"], {}, "eve/mine: the token may not do this .*; use one with write access to that account"),
        (["publish", run, "--push", "--repo", "ann/public"], {}, "ann/public: is public, and this release is private; "),
        (["publish", run, "--push", "--repo", "ann/taken", "--tag", "v1"], {}, r"ann/taken: tag v1 stands at another release \(\w+\) and does not move; choose another"),
        (["publish", run, "--repo", "{user}/{bse}"], {}, r"publish\.repo = '\{user\}/\{bse\}': \{bse\} is unknown; did you mean \{base\}\?"),
        (["publish", run, "--repo", "model"], {}, r"publish\.repo = 'model': must be OWNER/NAME, such as '\{user\}/my-model'"),
        (["publish", run, "--waive", "licens"], {}, "--waive licens: no such gate; did you mean licence"),
        (["publish", run, "--create-pr", "--tag", "v2"], {}, "--create-pr: a tag stands at a commit of a branch; leave --tag out"),
        (["publish", run, "--format", "gguf"], {}, r"has no gguf yet; make it with `medrecipes export \S+ --format gguf`"),
        (["verify", "ann/nothing"], {}, "ann/nothing: the Hub knows nothing by this name that the token may see"),
        (["verify", BASE], {}, r"holds no release\.json, so it makes no claims that can be checked; name a release of medrecipes"),
        (["verify", "./nowhere"], {}, r"\./nowhere: is neither a run folder nor a repository; name a run, OWNER/NAME or datasets/OWNER/NAME"),
        (["verify", REPO], {"HF_TOKEN": OTHER}, f"{REPO}: the Hub knows nothing by this name that the token may see"),
    ]  # fmt: skip
    for command, environment, expected in cases:
        done = shell(*command, **environment)
        assert done.code == 2, (command, done)
        assert re.search(expected, done.err), done.err
        assert done.err.count("\n") == 1, done.err
    assert not hub.store.repos["model", "ann/public"].contents()


def test_the_token_is_in_no_file_and_no_word(released: Released, shell: Shell) -> None:
    said = "".join(d.out + d.err for d in (released.trained, released.shown, released.pushed, released.again))
    assert len(said) > 5000
    assert WRITE not in said + shell.said.read_text()
    written = [path for path in released.run.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert not [path for path in written if WRITE.encode() in path.read_bytes()]


def test_the_command_line_knows_the_formats_of_the_schema() -> None:
    assert get_args(Format) == FORMATS


def test_a_pull_request_and_a_branch_leave_main_alone(released: Released, shell: Shell, hub: Hub) -> None:
    pull = shell("publish", released.run, "--push", "--repo", "ann/pulled", "--public", "--create-pr")
    assert (pull.code, pull.err) == (0, "")
    assert re.search(r"push +one commit, \w{12} on refs/pr/1 ", pull.out)
    assert f"release          {hub.url}/ann/pulled/discussions/1\n" in pull.out
    branch = shell("publish", released.run, "--push", "--repo", "ann/pulled", "--public", "--revision", "next")
    assert (branch.code, branch.err) == (0, "")
    repo = hub.store.repos["model", "ann/pulled"]
    assert not repo.private
    assert repo.contents("main") == {}
    assert repo.contents("next") == repo.contents("refs/pr/1") != {}


# --- other forms of a model


def exported(run: Path, name: str, files: dict[str, bytes], *, passed: bool = True) -> None:
    """What `medrecipes export` leaves."""
    import hashlib

    folder = run / "export" / name
    folder.mkdir(parents=True)
    for file, data in files.items():
        (folder / file).write_bytes(data)
    hashes = {file: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for file, data in files.items()}
    parity = {"prompts": 64, "greedy_agreement": 0.995, "mean_kl": 0.001, "passed": passed}
    about = {"merged_on": "the 16-bit base", "base": "/secret/place/small-base", "reason": "/secret/place/small-base was fetched before"}  # fmt: skip
    (folder / "export.json").write_text(json.dumps({"format": name, **about, "parity": parity, "files": hashes}))


def test_a_tagging_run_is_released_and_loads_again(tag_run: tuple[Path, str], shell: Shell, hub: Hub) -> None:
    words = ["publish", tag_run[0], "--repo", "ann/tagger", "--push"]
    refused = shell(*words)
    assert refused.code == 2
    assert "gate licence: " in refused.err  # the sample states none
    assert "gate reload" not in refused.err  # its score was recomputed
    assert ("model", "ann/tagger") not in hub.store.repos
    done = shell(*words, "--waive", "licence")
    assert (done.code, done.err) == (0, "")
    assert "tensors load, the same; 2 prompts give the same ids" in done.out
    assert {"adapter_model.safetensors", "tagging.json", "tokenizer.json"} <= set(hub.store.repos["model", "ann/tagger"].contents())  # fmt: skip
    again = shell(*words, "--waive", "licence")
    assert "push             already there, nothing pushed" in again.out
    verified = shell("verify", "ann/tagger")
    assert verified.code == 0
    held = {"files", "release.json", "recipe", "figures in the card", "card", "adapter"}
    sought = {"split", "data.json", "training", "base", "tokenizer", "labels", "findings"}
    assert verdicts(verified.out) == {**dict.fromkeys(held, "ok"), **dict.fromkeys(sought, "not checked")}
    assert "name the data with --set data.path=…" in verified.out
    verified = shell("verify", "ann/tagger", "--strict", "--set", f"data.path={ROOT}/data/bio")
    assert verified.code == 0
    assert verdicts(verified.out) == dict.fromkeys(held | sought, "ok")


def test_every_format_has_a_repository_of_its_own(released: Released, shell: Shell, hub: Hub, tmp_path: Path) -> None:
    run = tmp_path / released.run.name
    shutil.copytree(released.run, run)
    exported(run, "gguf-q8_0", {"model-q8_0.gguf": b"GGUF eight", "Modelfile": b"FROM ./model-q8_0.gguf"})
    exported(run, "gguf-q4_k_m", {"model-q4_k_m.gguf": b"GGUF four", "Modelfile": b"FROM ./model-q4_k_m.gguf"})
    done = shell("publish", run, "--push", "--format", "adapter", "--format", "gguf")
    assert (done.code, done.err) == (0, "")
    assert "push             already there, nothing pushed" in done.out  # the adapter
    held = hub.store.repos["model", f"{REPO}-gguf"].contents()
    assert held["model-q8_0.gguf"] == b"GGUF eight"
    assert held["Modelfile"] == b"FROM ./model-q4_k_m.gguf"  # the one that most will want
    card = held["README.md"].decode()
    assert "Merged on the 16-bit base (small-base was fetched before)." in card
    assert "| gguf-q8_0 | 64 |  | 99.5% |  | 0.001 |  |" in card
    assert not [name for name, data in held.items() if b"/secret/" in data]
    assert {"model-q4_k_m.gguf", "gguf-q8_0.json", "gguf-q4_k_m.json", "README.md", "release.json"} <= set(held)
    assert "adapter_model.safetensors" not in held
    names = ("chat_template.jinja", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
    merged = {name: (run / "adapter" / name).read_bytes() for name in names}
    weights = (run / "adapter" / "adapter_model.safetensors").read_bytes()
    exported(run, "merged-16bit", {**merged, "model.safetensors": weights})
    asked = len(hub.requests)
    done = shell("publish", run, "--push", "--format", "merged-16bit")
    assert (done.code, done.err) == (0, "")
    assert "files, the same by their hashes; 2 prompts give the same ids" in done.out
    merged_repo = hub.store.repos["model", f"{REPO}-merged-16bit"]
    assert merged_repo.contents()["model.safetensors"] == weights
    # gigabytes are compared by the hash that the Hub states, and not fetched again
    heavy = merged_repo.resolve("main").files["model.safetensors"].sha256
    assert not [request for request in hub.requests[asked:] if request.startswith("GET /cdn/") and heavy in request]
    verified = shell("verify", f"{REPO}-merged-16bit")
    assert verified.code == 0
    unseen = dict.fromkeys(("adapter", "evaluation loss"), "not checked")
    assert verdicts(verified.out) == {**dict.fromkeys(CLAIMS - {"base figures"}, "ok"), **unseen}
    (run / "export/gguf-q8_0/model-q8_0.gguf").write_bytes(b"GGUF other")
    done = shell("publish", run, "--format", "gguf")
    assert done.err.endswith("gguf-q8_0/model-q8_0.gguf: is not what was exported; export it again\n")
    shutil.rmtree(run / "export")
    exported(run, "gguf-q8_0", {"model-q8_0.gguf": b"GGUF eight"}, passed=False)
    done = shell("publish", run, "--format", "gguf")
    assert done.err.endswith("export/gguf-q8_0: does not answer as the adapter does, so it is not released; export it again\n")  # fmt: skip


# --- datasets


def test_the_whole_family_of_datasets_is_released_and_loads_again(shell: Shell, hub: Hub, tmp_path: Path) -> None:
    command = ["build", "recipes/datasets.toml", "--set", "data.path=data", "--out", tmp_path, "--push", "--waive", "licence"]  # fmt: skip
    done = shell(*command)
    assert done.code == 0, done.err
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 16
    assert {f"ann/{name}" for name in names} <= {name for kind, name in hub.store.repos if kind == "dataset"}
    code = (
        "from datasets import load_dataset, load_from_disk\n"
        "theirs, mine = load_dataset('ann/' + name), load_from_disk(folder)\n"
        "result = [list(theirs), list(mine), all(theirs[part][:] == mine[part][:] for part in mine), theirs['test'].num_rows]"
    )
    name = "medical_llama3_instruct_dataset_short"
    parts, local, same, rows = shell.python(code, name=name, folder=tmp_path / name)
    assert parts == local == ["train", "validation", "test"]
    assert same
    assert rows > 10
    again = shell("publish", tmp_path / name, "--push", "--waive", "licence")
    assert "already there, nothing pushed" in again.out
    verified = shell("verify", f"datasets/ann/{name}")
    assert (verified.code, verified.err) == (0, "")
    assert verdicts(verified.out) == dict.fromkeys(("files", "split train", "split validation", "split test", "split key"), "ok")  # fmt: skip


def test_a_dataset_of_tagged_words_is_released_and_verified(shell: Shell, hub: Hub, tmp_path: Path) -> None:
    done = shell("build", "recipes/tiny_bio_ner.toml", "--out", tmp_path, "--push", "--waive", "licence")
    assert (done.code, done.err) == (0, "")
    assert ("dataset", "ann/tiny_bio_ner") in hub.store.repos
    verified = shell("verify", "datasets/ann/tiny_bio_ner", "--strict")
    assert (verified.code, verified.err) == (0, "")
    assert verdicts(verified.out) == dict.fromkeys(("files", "split train", "split validation", "split test", "split key"), "ok")  # fmt: skip


def test_a_closed_gate_of_one_dataset_stops_them_all(shell: Shell, hub: Hub, tmp_path: Path) -> None:
    done = shell("build", "recipes/datasets.toml", "--set", "data.path=data", "--set", "publish.dataset_repo='{user}/closed-{name}'", "--set", 'build.sets=[{name="one_{model}"}]', "--out", tmp_path, "--push")  # fmt: skip
    assert done.code == 2
    assert "one_gemma: gate licence: " in done.err
    assert not [name for _, name in hub.store.repos if "closed-" in name]
