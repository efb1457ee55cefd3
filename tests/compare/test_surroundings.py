"""What differs around the tensors, and how much each matters."""

import dataclasses
import json
import subprocess
import sys
import time

import pytest

from reprodebug.compare import importance, sources
from reprodebug.compare.surroundings import surroundings
from reprodebug.model.comparison import SECTIONS, SEVERITIES, Difference
from reprodebug.model.run import Manifest, Process

HASH = "xxh3-128:"


def manifest(command: str = "python train.py", cwd: str = "/home/me/a", environment: dict | None = None, **more) -> Manifest:
    return Manifest(command=tuple(command.split()), cwd=cwd, started="2026-01-01T00:00:00Z", environment=environment or {}, **more)


def by_key(a: Manifest, b: Manifest) -> dict[str, Difference]:
    found = surroundings(a, b)
    order = [SEVERITIES.index(d.severity) for d in found]
    assert order == sorted(order)
    for d in found:
        assert d.section in SECTIONS
        assert d.reason
        assert d.a != d.b or d.a == "differ"
        assert max(len(d.a), len(d.b)) <= 200
    keys = {d.key: d for d in found}
    assert len(keys) == len(found)
    assert [(d.section, d.severity) for d in surroundings(b, a)] == [(d.section, d.severity) for d in found]
    return keys


def test_equal_runs_differ_in_nothing() -> None:
    assert surroundings(manifest(), manifest()) == ()


@pytest.mark.parametrize(
    ("left", "right", "key", "severity"),
    [
        ("--lr 0.1", "--lr 0.2", "--lr", "critical"),
        ("--lr=0.1", "--lr 0.2", "--lr", "critical"),
        ("--lr 0.1", "", "--lr", "critical"),
        ("--amp", "", "--amp", "critical"),
        ("--bias -1", "--bias -2", "--bias", "critical"),
        ("optim.lr=1", "+optim.lr=2", "optim.lr", "critical"),
        ("--set optim.lr=1 --set seed=2", "--set optim.lr=3 --set seed=2", "--set optim.lr", "critical"),
        ("--set lr=1 --set lr=2", "--set lr=2 --set lr=1", "--set lr", "critical"),
        ("-o log.out_dir=a", "-o log.out_dir=b", "-o log.out_dir", "harmless"),
        ("--url http://a?x=1", "--url http://a?x=2", "--url", "critical"),
        ("--model-name a", "--model-name b", "--model-name", "critical"),
        ("--seed 1", "--seed 2", "--seed", "critical"),
        ("--workers 1", "--workers 2", "--workers", "notable"),
        ("--num_workers 1", "--num-workers 2", "--num-workers", "notable"),
        ("--ckpt a", "--ckpt b", "--ckpt", "notable"),
        ("--out runs", "--out scratch/results", "--out", "harmless"),
        ("--name monday", "--name tuesday", "--name", "harmless"),
        ("--output_dir a", "--output-dir b", "--output-dir", "harmless"),
        ("hydra.run.dir=a logging.tags=x", "hydra.run.dir=a logging.tags=y", "logging.tags", "harmless"),
        ("--master_port 1", "--master_port 2", "--master-port", "harmless"),
    ],
)
def test_options(left: str, right: str, key: str, severity: str) -> None:
    found = by_key(manifest(f"python train.py {left}"), manifest(f"python train.py {right}"))
    assert list(found) == [key]
    assert (found[key].section, found[key].severity) == ("config", severity)


@pytest.mark.parametrize(("flags", "key"), [("-O", "python -O"), ("-X dev", "python -X dev"), ("-u", "python -u")])
def test_options_of_the_interpreter_are_not_the_script_s(flags: str, key: str) -> None:
    found = by_key(manifest(), manifest(f"python {flags} train.py"))
    assert {k: d.severity for k, d in found.items()} == {key: "harmless"}


def test_same_option_written_differently_is_no_difference() -> None:
    assert surroundings(manifest("python t.py --max_len=4 x=1"), manifest("python t.py --max-len 4 +x=1")) == ()


def test_option_values() -> None:
    found = by_key(manifest("python t.py --workers 1"), manifest("python t.py --workers 2"))
    assert (found["--workers"].a, found["--workers"].b) == ("1", "2")


def test_folders_are_compared_from_inside() -> None:
    a = manifest(
        "python /home/me/a/t.py --data /home/me/a/x.csv",
        "/home/me/a",
        data={"/home/me/a/x.csv": {"mode": "read", "size": 1, "hash": HASH + "1"}},
    )
    b = manifest(
        "python /home/me/b/t.py --data /home/me/b/x.csv",
        "/home/me/b",
        data={"/home/me/b/x.csv": {"mode": "read", "size": 1, "hash": HASH + "1"}},
    )
    assert {k: d.severity for k, d in by_key(a, b).items()} == {"cwd": "harmless"}


def test_other_names_below_tmp_are_no_noise() -> None:
    assert "--data" in by_key(manifest("t --data /tmp/a.csv"), manifest("t --data /tmp/b.csv"))
    assert surroundings(manifest("t --data /tmp/tmpab12cd34/a.csv"), manifest("t --data /tmp/tmpzz99yy88/a.csv")) == ()


def test_same_file_under_another_path() -> None:
    entry = {"hash": HASH + "1", "size": 1}
    a = manifest("t --init w1.pt", code={"named": {"w1.pt": entry}})
    b = manifest("t --init w2.pt", code={"named": {"w2.pt": entry}})
    assert by_key(a, b)["--init"].severity == "harmless"


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("OMP_NUM_THREADS", "critical"),
        ("PYTHONHASHSEED", "critical"),
        ("CUBLAS_WORKSPACE_CONFIG", "critical"),
        ("ATEN_CPU_CAPABILITY", "critical"),
        ("MKL_NUM_THREADS", "critical"),
        ("TORCHINDUCTOR_FREEZING", "critical"),
        ("WORLD_SIZE", "critical"),
        ("NCCL_ALGO", "critical"),
        ("CUDA_VISIBLE_DEVICES", "notable"),
        ("LD_LIBRARY_PATH", "notable"),
        ("MY_PROGRAM_MODE", "notable"),
        ("HOSTNAME", "harmless"),
        ("USER", "harmless"),
        ("SLURM_JOB_ID", "harmless"),
        ("EDITOR", "harmless"),
        ("TERM", "harmless"),
        ("RUN_NAME", "harmless"),
        ("RANK", "harmless"),
        ("PATH", "harmless"),
        ("WANDB_RUN_ID", "harmless"),
        ("SLURM_NTASKS", "notable"),
    ],
)
def test_variables(name: str, severity: str) -> None:
    a, b = (manifest(environment={"variables": {name: value}}) for value in ("1", "2"))
    assert by_key(a, b)[name].severity == severity
    gone = by_key(a, manifest(environment={"variables": {}}))
    assert gone[name].b == "(absent)"


def test_names_folders_and_clock_are_harmless() -> None:
    """Two launches that differ in names only have nothing above harmless."""
    a = manifest(
        "python train.py --out runs --name monday",
        "/tmp/x/a",
        {
            "variables": {"HOSTNAME": "node-017", "USER": "alice", "SLURM_JOB_ID": "4711", "PWD": "/tmp/x/a"},
            "system": {"host": "node-017"},
            "interpreter": {"hash_seed": "0", "hash_probe": "1"},
        },
    )
    b = manifest(
        "python train.py --out scratch/results --name tuesday",
        "/tmp/x/b",
        {
            "variables": {"HOSTNAME": "node-203", "USER": "bob", "SLURM_JOB_ID": "9034", "EDITOR": "vim", "PWD": "/tmp/x/b"},
            "system": {"host": "node-203"},
            "interpreter": {"hash_seed": "0", "hash_probe": "1"},
        },
    )
    found = by_key(a, b)
    assert set(found) >= {"HOSTNAME", "USER", "SLURM_JOB_ID", "EDITOR", "--out", "--name", "cwd"}
    assert {d.severity for d in found.values()} == {"harmless"}


def test_packages() -> None:
    def with_(imported: list[str], **packages: str) -> Manifest:
        return manifest(environment={"packages": packages, "imported": imported})

    a = with_(["torch", "other"], torch="2.6", numpy="1.0", other="1", tqdm="1", plain="1")
    b = with_(["torch", "numpy"], torch="2.7", numpy="2.0", other="2", tqdm="2", plain="1", extra="1")
    assert {k: d.severity for k, d in by_key(a, b).items()} == {
        "torch": "critical",
        "numpy": "critical",
        "other": "notable",
        "tqdm": "harmless",
        "extra": "harmless",
    }
    unknown = by_key(manifest(environment={"packages": {"x": "1"}}), manifest(environment={"packages": {"x": "2"}}))
    assert unknown["x"].severity == "notable"
    edited = by_key(manifest(environment={"edited": ["torch: torch/nn/x.py"]}), manifest())
    assert (edited["torch: torch/nn/x.py"].section, edited["torch: torch/nn/x.py"].severity) == ("code", "critical")


def test_what_torch_compile_makes_is_no_code_and_no_data_of_the_program() -> None:
    files = {"/tmp/torchinductor_me/3l/c3l.py": {"hash": "x:1"}, "train.py": {"hash": "x:2"}}
    a = manifest(code={"files": {"train.py": {"hash": "x:2"}}})
    b = manifest(code={"files": files}, data={"/tmp/torchinductor_me/locks/a.lock": {"mode": "read", "size": 0, "written": True}})
    found = by_key(a, b)
    assert set(found) == {"/tmp/torchinductor_me/3l/c3l.py", "/tmp/torchinductor_me/locks/a.lock"}
    assert {d.severity for d in found.values()} == {"harmless"}


def test_moved_files_meet_by_content_and_name() -> None:
    old, new = {"mode": "read", "size": 4, "hash": "x:1"}, {"mode": "read", "size": 4, "hash": "x:2"}
    a = manifest(data={"d/old/x.csv": old, "d/old/z.csv": old})
    b = manifest(data={"d/new/x.csv": old, "d/new/z.csv": new})
    found = by_key(a, b)
    assert {k: d.severity for k, d in found.items()} == {"d/old/x.csv": "harmless", "d/old/z.csv": "notable", "d/new/z.csv": "notable"}


def test_hash_seed() -> None:
    def with_(seed: str, probe: str) -> Manifest:
        interpreter = {"hash_seed": seed, "hash_probe": probe}
        return manifest(environment={"interpreter": interpreter, "variables": {} if seed == "random" else {"PYTHONHASHSEED": seed}})

    assert by_key(with_("1", "aa"), with_("2", "bb"))["PYTHONHASHSEED"].severity == "critical"
    assert by_key(with_("random", "aa"), with_("random", "bb"))["PYTHONHASHSEED"].severity == "notable"
    assert by_key(with_("1", "aa"), with_("random", "bb"))["PYTHONHASHSEED"].severity == "critical"
    assert surroundings(with_("1", "aa"), with_("1", "aa")) == ()


def test_settings_come_from_rank_0_where_the_run_has_none() -> None:
    def with_(**settings: object) -> Manifest:
        process = Process(
            rank=0, ordinal=0, pid=1, argv=(), trace="t", events=0, steps=0, complete=True, environment={"settings": settings}
        )
        return manifest(processes=(dataclasses.replace(process, rank=1, environment={}), process))

    found = by_key(with_(intra_op_threads=1, cudnn_benchmark=True), with_(intra_op_threads=2, cudnn_benchmark=False, sdp_math=True))
    assert {k: (d.section, d.severity) for k, d in found.items()} == {
        "intra_op_threads": ("hardware", "critical"),
        "cudnn_benchmark": ("config", "critical"),
        "sdp_math": ("config", "notable"),
    }
    assert found["sdp_math"].a == "(not recorded)"


def test_machine() -> None:
    a = {
        "hardware": {"cpu": "X", "cpu_flags": ["avx2", "fma"], "gpus": [{"name": "T4"}], "ram_gib": 8},
        "container": {"kind": None, "image": None},
        "system": {"libc": "glibc 2.36", "kernel": "6.1", "host": "h"},
    }
    b = {
        "hardware": {"cpu": "Y", "cpu_flags": ["avx512f", "avx2"], "gpus": [], "ram_gib": 16},
        "container": {"kind": "docker", "image": None},
        "system": {"libc": "glibc 2.39", "kernel": "6.2", "host": "g"},
    }
    found = by_key(manifest(environment=a), manifest(environment=b))
    assert {k: d.severity for k, d in found.items()} == {
        "cpu": "critical",
        "CPU instructions": "critical",
        "GPUs": "critical",
        "ram_gib": "harmless",
        "libc": "notable",
        "kernel": "harmless",
        "host": "harmless",
        "kind": "harmless",
    }
    assert found["kind"].section == "container"
    assert (found["CPU instructions"].a, found["CPU instructions"].b) == ("has fma", "has avx512f")


def test_two_cards_of_one_name() -> None:
    def machine(driver: str, **facts: object) -> Manifest:
        return manifest(environment={"hardware": {"gpus": [{"name": "H100", "capability": "9.0", **facts}], "nvidia_driver": driver}})

    found = by_key(machine("580", id="aa", mig=False, sm_clock_max=1980, ecc=True), machine("590", id="bb", mig=True, sm_clock_max=1755))
    assert {k: (d.section, d.severity) for k, d in found.items()} == {
        "GPU 0: mig": ("hardware", "critical"),
        "nvidia_driver": ("hardware", "notable"),
        "GPU 0: id": ("hardware", "harmless"),
        "GPU 0: sm clock max": ("hardware", "harmless"),
    }


def test_libraries_of_a_changed_package_are_not_said_twice() -> None:
    def with_(version: str, identity: str, blas: str) -> Manifest:
        site = "/v/lib/python3.11/site-packages"
        libraries = {
            "libtorch_cpu.so": {"path": f"{site}/torch/lib/libtorch_cpu.so", "size": 1, "build_id": identity},
            f"libopenblas-r0-{blas}.3.21.so": {"path": f"/usr/lib/libopenblas-{blas}.so", "size": 1, "build_id": blas},
            "libz.so.1": {"path": "/lib/libz.so.1", "size": 1, "build_id": identity},
        }
        return manifest(environment={"packages": {"torch": version}, "imported": ["torch"], "libraries": libraries})

    found = by_key(with_("1", "aa", "11112222"), with_("2", "bb", "33334444"))
    assert {k: d.severity for k, d in found.items()} == {"torch": "critical", "libopenblas": "critical", "libz": "notable"}


# code

NET = '''
"""Doc."""
import torch

LR = 1


class Net(torch.nn.Module):
    """A net."""

    scale = 1

    def forward(self, x):
        """Forward."""
        return x * self.scale


def main():
    return Net()
'''


def files(**texts: str) -> dict:
    return {"files": {f"{k}.py": {"hash": HASH + str(abs(hash(v))), "size": len(v), "text": v} for k, v in texts.items()}}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("x * self.scale", "x + self.scale", "Net.forward changed"),
        ("scale = 1", "scale = 2", "class Net changed"),
        ("LR = 1", "LR = 2", "module level changed"),
        ("torch.nn.Module", "object", "class Net changed"),
        ("return Net()", "return Net(), 1", "main changed"),
        ("def main", "def other", "only here: "),
    ],
)
def test_changed_functions_are_named(old: str, new: str, said: str) -> None:
    d = by_key(manifest(code=files(net=NET)), manifest(code=files(net=NET.replace(old, new))))["net.py"]
    assert (d.section, d.severity) == ("code", "critical")
    assert said in d.a


@pytest.mark.parametrize(
    ("old", "new"),
    [('"""Forward."""', '"""Other."""'), ("LR = 1", "LR = 1  # rate"), ("\n\n\n", "\n\n"), ('    """A net."""\n', "")],
)
def test_comments_and_docstrings_are_harmless(old: str, new: str) -> None:
    d = by_key(manifest(code=files(net=NET)), manifest(code=files(net=NET.replace(old, new))))["net.py"]
    assert (d.severity, d.reason) == ("harmless", "only comments, docstrings, layout or names of local variables changed")


STEP = """
def step(x, lr, n=2):
    scale, keep = lr / n, []
    for row in x:
        keep.append(row * scale)
    return sum(keep), [k for k in keep if (lambda v: v > scale)(k)]
"""
RENAMED = """
def step(batch, rate, n=2):
    "Other names."
    factor, rows = rate / n, []
    for r in batch:
        rows.append(r * factor)
    return sum(rows), [p for p in rows if (lambda w: w > factor)(p)]
"""


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (STEP, RENAMED),
        ("def f(net):\n    m = net.eval()\n    return m", "def f(net):\n    model = net.eval()\n    return model"),
        ("def f(x):\n    y: int = 1\n    return x + y", "def f(x):\n    z = 1\n    return x + z"),
    ],
)
def test_names_of_local_variables_are_harmless(a: str, b: str) -> None:
    assert sources.changed_parts(a, b) == ([], [], [])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (STEP, RENAMED.replace("rate / n", "n / rate")),
        (STEP, RENAMED.replace("n=2", "n=2.0")),
        (STEP, RENAMED.replace("w > factor", "factor > w")),
        (STEP, STEP.replace("row * scale", "row * Scale")),  # a global
        ("def f(x): return -0.0", "def f(x): return 0.0"),
        ("def f(x): return 1", "def f(x): return True"),
        ("def f(a): return locals()", "def f(b): return locals()"),
        ("def f(t, a): return t.query('x > @a')", "def f(t, b): return t.query('x > @a')"),
        ("def f(**a): return a", "def f(**b): return b"),
        ("@main\ndef f(a): return a", "@main\ndef f(b): return b"),  # a decorator may read the names
        ("def f(a, b): return a - b", "def f(b, a): return a - b"),
        ("def f():\n def g(): return a\n a = b = 1\n b = 2\n return g", "def f():\n def g(): return b\n a = b = 1\n b = 2\n return g"),
        ("def f(): yield 1", "def f(): return 1"),
    ],
)
def test_what_a_function_does_counts_whatever_its_variables_are_called(a: str, b: str) -> None:
    assert sources.changed_parts(a, b) == (["step" if "step" in a else "f"], [], [])


def test_type_hints_alone_are_notable() -> None:
    """A few libraries read them, so they are not called harmless."""
    a, b = "def f(x, n=1): return x", "from __future__ import annotations\n\ndef f(x: int, n: int = 1) -> int: return x"
    d = by_key(manifest(code=files(a=a)), manifest(code=files(a=b)))["a.py"]
    assert (d.severity, d.reason) == ("notable", "only type hints changed")
    d = by_key(manifest(code=files(a=a + "\ndef g(x): return 1")), manifest(code=files(a=b + "\ndef g(x): return 2")))["a.py"]
    assert (d.severity, d.a.partition(" ")[2]) == ("critical", "(g changed)")


def test_sources_that_cannot_be_parsed_are_still_critical() -> None:
    assert by_key(manifest(code=files(a="x = (")), manifest(code=files(a="x = 1")))["a.py"].severity == "critical"
    assert sources.changed_parts('x = "\\d"', 'x = "\\d"  # same') == ([], [], [])  # an invalid escape warns when it is parsed


def test_commits() -> None:
    def at(commit: str, text: str, patch: str = "") -> Manifest:
        return manifest(code={"vcs": "git", "commit": commit * 40, "subject": "s", "branch": commit, "patch": patch, **files(a=text)})

    found = by_key(at("a", "x = 1"), at("b", "x = 1", "diff --git a/r.md b/r.md\n--- a/r.md\n+++ b/r.md\n+x\n-y\n"))
    assert {d.severity for d in found.values()} == {"harmless"}
    assert found["uncommitted changes"].b == "+1 -1 lines in r.md"
    found = by_key(at("a", "x = 1"), at("b", "x = 2"))
    assert (found["commit"].severity, found["a.py"].severity, found["branch"].severity) == ("notable", "critical", "harmless")


def test_files_imported_by_one_run_and_renamed() -> None:
    found = by_key(manifest(code=files(a="x = 1", b="y = 1")), manifest(code=files(a="x = 1", c="y = 1", d="z = 1")))
    assert {k: d.severity for k, d in found.items()} == {"b.py": "harmless", "d.py": "notable"}


@pytest.mark.parametrize("suffix", ["json", "toml", "yaml"])
def test_configuration_files(suffix: str) -> None:
    text = {
        "json": lambda lr, tag: json.dumps({"model": {"lr": lr, "sizes": [1, 2]}, "log": {"tags": tag}}),
        "toml": lambda lr, tag: f'[model]\nlr = {lr}\n[log]\ntags = "{tag}"\n',
        "yaml": lambda lr, tag: f"model:\n  lr: {lr}  # note\nlog:\n  tags: {tag}\n",
    }[suffix]

    def with_(body: str) -> Manifest:
        return manifest(code={"named": {f"base.{suffix}": {"hash": HASH + body, "size": 1, "text": body}}})

    found = by_key(with_(text(1, "x")), with_(text(2, "y")))
    lr, tags = found[f"base.{suffix}: model.lr"], found[f"base.{suffix}: log.tags"]
    assert (lr.a, lr.b, lr.severity, lr.section) == ("1", "2", "critical", "config")
    assert tags.severity == "harmless"
    if suffix != "json":
        assert by_key(with_(text(1, "x")), with_("# new\n" + text(1, "x")))[f"base.{suffix}"].severity == "harmless"


def test_two_configuration_files_that_one_option_names() -> None:
    """Their values differ, not the file's name; what is no such pair stays what it was."""

    def with_(option: str, name: str, text: str) -> Manifest:
        entry = {"hash": HASH + text, "size": 1, "text": text}
        return manifest(
            f"python train.py {option} {name}", code={"named": {name: entry}}, data={f"/w/a/{name}": read(text, text=text)}, cwd="/w/a"
        )

    for option, key in (("--config", "--config"), ("", "word 2")):
        found = by_key(
            with_(option, "a.json", '{"lr": 1, "width": 3, "log_dir": "x"}'),
            with_(option, "b.json", '{"lr": 2, "width": 3, "log_dir": "y"}'),
        )
        assert {k: d.severity for k, d in found.items()} == {
            "a.json / b.json: lr": "critical",
            "a.json / b.json: log_dir": "harmless",
            key: "harmless",
        }
    many = [json.dumps({f"k{n}": n * side for n in range(1, 20)}) for side in (1, 2)]
    for left, right in (("[1, 2]", "[2, 1]"), (many[0], many[1])):
        found = by_key(with_("", "a.json", left), with_("", "b.json", right))
        assert set(found) == {"word 2", "a.json", "b.json"} and found["word 2"].severity == "critical"
    assert by_key(with_("", "a.json", "{}"), with_("", "b.json", "{ }"))["a.json / b.json"].severity == "harmless"


def test_what_is_no_yaml_is_compared_by_line() -> None:
    def with_(body: str) -> Manifest:
        return manifest(code={"named": {"base.yaml": {"hash": HASH + body, "size": 1, "text": body}}})

    bomb = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True))
    for text in ("lr: {1", bomb, "lr: 1\n---\n: ]"):
        found = by_key(with_(text), with_(text + "\nlr: 2"))["base.yaml"]
        assert "lr: 2" in found.b and found.severity == "critical"


@pytest.mark.parametrize(("name", "section"), [("study.ipynb", "code"), ("rows.csv", "data")])
def test_files_that_the_command_names(name: str, section: str) -> None:
    found = by_key(*(manifest(code={"named": {name: {"hash": HASH + side, "size": 1}}}) for side in "ab"))
    assert (found[name].section, found[name].severity) == (section, "critical")


def test_nested_lists_and_missing_keys() -> None:
    found = {k: (x, y) for k, x, y in sources.nested({"a": [1, {"b": 2}], "c": {"d": 1}}, {"a": [1, {"b": 3}], "c": {}})}
    assert found == {"a.1.b": (2, 3), "c.d": (1, None)}
    assert list(sources.nested({"a": 1}, {"a": 2, "b": None})) == [("a", 1, 2), ("b", None, None)]


# data


def read(digest: str | None = "1", size: int = 1, **more: object) -> dict:
    return {"mode": "read", "size": size, **({"hash": HASH + digest} if digest else {}), **more}


@pytest.mark.parametrize(
    ("a", "b", "severity"),
    [
        (read("1"), read("2"), "critical"),
        (read("1", written=True), read("2", written=True), "notable"),
        (read("1"), read("1", written=True), None),
        (read("1"), read("2", written=True), "critical"),
        (read("1"), None, "notable"),
        (read("1"), {"mode": "write", "existed": False}, "critical"),
        ({"mode": "write", "existed": False}, {"mode": "write", "existed": True}, None),
        ({"mode": "write", "existed": False}, None, None),
        (read(None, why="budget"), read(None, why="budget", size=2), "critical"),
        (read(None, why="budget"), read("1"), None),
        (read("1"), {"mode": "read", "size": 1, "hash": "blake2b-128:1"}, "notable"),
    ],
)
def test_data(a: dict | None, b: dict | None, severity: str | None) -> None:
    found = by_key(*(manifest(cwd=c, data={} if e is None else {f"{c}/x.bin": e}) for c, e in (("/w/a", a), ("/w/b", b))))
    assert (found["x.bin"].severity if "x.bin" in found else None) == severity


def test_moved_data() -> None:
    found = by_key(manifest(data={"/d/one.bin": read("1")}), manifest(data={"/e/two.bin": read("1")}))
    assert [d.severity for d in found.values()] == ["harmless"]


# the whole


def test_long_values_are_shown_where_they_differ() -> None:
    a, b = (manifest(environment={"variables": {"LD_LIBRARY_PATH": "/x:" * 200 + end + "/y:" * 200}}) for end in ("/one:", "/two:"))
    found = by_key(a, b)["LD_LIBRARY_PATH"]
    assert "/one" in found.a
    assert "/two" in found.b


def test_thousands_of_files_are_counted() -> None:
    found = surroundings(
        manifest(data={f"/d/{n}": read(str(n)) for n in range(3000)}), manifest(data={f"/d/{n}": read("x") for n in range(3000)})
    )
    assert len(found) == 201
    assert "2800 more" in found[-1].key


def test_wrong_shapes_are_no_error() -> None:
    rubbish = {
        "packages": 3,
        "settings": [1],
        "hardware": {"gpus": None, "cpu_flags": None},
        "libraries": {"x": 1},
        "variables": None,
    }
    surroundings(
        manifest(environment=rubbish, code={"files": 1, "named": []}, data={"x": None}),
        manifest(
            environment={"hardware": {"gpus": [{"name": "g"}]}, "libraries": {"x": {}}, "packages": {"a": "1"}},
            code={"files": {"a": 1}},
        ),
    )


def test_deepdiff_is_imported_for_nested_records_only() -> None:
    program = (
        "import sys\nfrom reprodebug.compare import surroundings as s\nfrom reprodebug.model.run import Manifest\n"
        "a = Manifest(('t', '--lr', '1'), '/a', '', environment={'variables': {'A': '1'}})\n"
        "b = Manifest(('t', '--lr', '2'), '/b', '', environment={'variables': {'A': '2'}})\n"
        "assert len(s.surroundings(a, b)) == 3\nprint([m for m in ('deepdiff', 'torch', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_large_records_are_fast() -> None:
    packages = {f"p{n}": "1" for n in range(500)}
    code = files(**{f"m{n}": NET for n in range(200)})
    a = manifest(environment={"packages": packages, "variables": {f"V{n}": "1" for n in range(200)}}, code=code)
    b = manifest(environment={"packages": packages | {"p7": "2"}, "variables": {f"V{n}": "2" for n in range(200)}}, code=code)
    started = time.perf_counter()
    surroundings(a, b)
    assert time.perf_counter() - started < 10  # quadratic would take minutes


def test_every_pattern_of_the_table_compiles() -> None:
    assert importance.variable("anything at all")[0] == "notable"


def test_a_file_written_while_the_other_run_ran_was_left_by_it() -> None:
    def side(start: str, end: str, cwd: str, data: dict) -> Manifest:
        return dataclasses.replace(manifest(cwd=cwd), started=f"2026-01-01T{start}+00:00", ended=f"2026-01-01T{end}+00:00", data=data)

    at = 1767262205.0  # 10:10:05
    read = {"mode": "read", "size": 9, "hash": HASH + "1", "modified": at}
    a = side("10:10:00", "10:10:10", "/w", {})
    b = side("10:11:00", "10:11:10", "/w", {"/w/cache.pt": read})
    found = by_key(a, b)["cache.pt"]
    assert found.severity == "critical"
    assert found.a.startswith("written")
    assert "one run made this file" in found.reason
    for other in (
        side("10:10:06", "10:10:10", "/w", {}),  # written before A began
        side("10:10:00", "10:10:10", "/elsewhere", {}),  # a copy of the folder: A cannot have written there
    ):
        assert by_key(other, b)["cache.pt"].severity == "notable"
    own = side("10:11:00", "10:11:10", "/w", {"/w/cache.pt": {**read, "written": True}})
    assert by_key(a, own)["cache.pt"].severity == "notable"


def test_a_variable_that_the_source_reads_is_not_harmless() -> None:
    code = {"files": {"train.py": {"hash": HASH + "1", "text": "seed = int(os.environ['SLURM_ARRAY_TASK_ID'])"}}}
    runs = [manifest(environment={"variables": {"SLURM_ARRAY_TASK_ID": v, "SLURM_JOB_ID": v}}, code=code) for v in "12"]
    found = by_key(*runs)
    assert found["SLURM_ARRAY_TASK_ID"].severity == "notable"
    assert found["SLURM_JOB_ID"].severity == "harmless"


def test_asking_for_the_user_reads_the_variables_that_name_one() -> None:
    code = {"files": {"train.py": {"hash": HASH + "1", "text": "seed = crc32(getpass.getuser().encode())"}}}
    found = by_key(*(manifest(environment={"variables": {"USER": v, "SHELL": v}}, code=code) for v in ("ann", "ben")))
    assert (found["USER"].severity, found["SHELL"].severity) == ("notable", "harmless")


@pytest.mark.parametrize("launcher", ["taskset -c 0", "nice -n 5 taskset -c 1", "timeout 60", "env A=1"])
def test_the_words_of_a_launcher_are_not_the_script_s_options(launcher: str) -> None:
    found = by_key(manifest("python train.py --lr 1"), manifest(f"{launcher} python train.py --lr 2"))
    assert {k: d.severity for k, d in found.items()} == {"--lr": "critical", "launcher": "harmless"}


@pytest.mark.parametrize(
    ("new", "section", "severity"),
    [
        ('{"b": [1],\n "a": 2}', "data", "notable"),
        ('{"a": 2,\n "b": [1]}', "config", "harmless"),
        ('{"a": 2.0, "b": [1]}', "data", "notable"),
    ],
)
def test_the_order_of_keys_is_no_layout(new: str, section: str, severity: str) -> None:
    runs = [manifest(data={"labels.json": {"hash": HASH + t, "size": 9, "text": t, "mode": "read"}}) for t in ('{"a": 2, "b": [1]}', new)]
    found = by_key(*runs)["labels.json"]
    assert (found.section, found.severity) == (section, severity)
