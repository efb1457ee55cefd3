"""What a process says about itself, and that asking does not change it."""

import json
import os
import subprocess
import sys
import types

import pytest

from reprodebug.recorder import facts

torch = pytest.importorskip("torch")
SECRET = "ghp_" + "a1B2" * 9


def child(code: str, **variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("ATEN_CPU_CAPABILITY", "OMP_NUM_THREADS")} | variables
    done = subprocess.run([sys.executable, "-c", code, "--token", "hunter2"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_start_facts_is_plain_and_masked() -> None:
    out = child(
        "import json; from reprodebug.recorder import facts; print(json.dumps(facts.start_facts()))",
        HF_TOKEN="hunter2", HARMLESS=f"x {SECRET}", PYTHONHASHSEED="7",
    )  # fmt: skip
    found = json.loads(out)
    assert "hunter2" not in out
    assert SECRET not in out
    assert found["hash_seed"] == "7"
    assert found["version"] == ".".join(map(str, sys.version_info[:3]))
    assert found["variables"]["PYTHONHASHSEED"] == "7"
    assert found["flags"]["optimize"] == 0


def test_start_facts_needs_no_torch() -> None:
    out = child(
        "import sys\nfrom reprodebug.recorder import facts\nfacts.start_facts()\nprint('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    assert out.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("command", "script"),
    [
        (["python", "train.py", "-c"], "train.py"),
        (["python", "-X", "dev", "-O", "a/train.py"], "a/train.py"),
        (["python", "-m", "pkg.train", "x.py"], ""),
        (["python", "-c", "pass", "x.py"], ""),
        (["python"], ""),
    ],
)
def test_the_script_of_a_command(command: list[str], script: str) -> None:
    assert facts.script(command) == script


def test_same_seed_same_probe() -> None:
    code = "from reprodebug.recorder import facts; print(facts.start_facts()['hash_probe'])"
    assert child(code, PYTHONHASHSEED="3") == child(code, PYTHONHASHSEED="3") != child(code, PYTHONHASHSEED="4")


def test_asking_early_freezes_nothing() -> None:
    """Reading the CPU capability right after the import would fix it before the program can set the variable."""
    code = (
        "import os, torch\nfrom reprodebug.recorder import facts\n"
        "facts.torch_facts(torch); facts.settings(torch); facts.SettingsWatch(torch)\n"
        "os.environ['ATEN_CPU_CAPABILITY'] = 'default'\nprint(torch.backends.cpu.get_cpu_capability())"
    )
    assert child(code).strip() == "DEFAULT"


def test_asking_imports_and_warns_nothing() -> None:
    code = (
        "import sys, warnings, torch\nwarnings.simplefilter('error')\nfrom reprodebug.recorder import facts\n"
        "before = set(sys.modules)\n"
        "facts.torch_facts(torch, used=True); facts.SettingsWatch(torch).changed(); facts.modules(); facts.mapped_libraries()\n"
        "facts.torch_facts(torch); facts.settings(torch)\nprint(sorted(set(sys.modules) - before), torch.cuda.is_initialized())"
    )
    assert child(code).strip() == "[] False"


def test_torch_facts() -> None:
    early = facts.torch_facts(torch)
    assert early["version"] == str(torch.__version__)
    assert "cpu_capability" not in early
    late = facts.torch_facts(torch, used=True)
    assert late["intra_op_threads"] == torch.get_num_threads()
    assert late["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert "onednn" in late["build"] or not torch.backends.mkldnn.is_available()
    json.dumps(late)


def test_settings_watch_sees_each_change() -> None:
    watch = facts.SettingsWatch(torch)
    first = watch.changed()
    assert first is not None
    assert first["intra_op_threads"] == torch.get_num_threads()
    assert watch.changed() is None
    was = torch.backends.cudnn.benchmark
    try:
        torch.backends.cudnn.benchmark = not was
        changed = watch.changed()
        assert changed is not None
        assert changed["cudnn_benchmark"] is (not was)
        assert watch.changed() is None
    finally:
        torch.backends.cudnn.benchmark = was
    json.dumps(first)


def test_settings_notice_the_variable_of_cublas(monkeypatch) -> None:
    watch = facts.SettingsWatch(torch)
    watch.changed()
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    changed = watch.changed()
    assert changed is not None
    assert changed["cublas_workspace"] == ":4096:8"


def test_mixed_tf32_switches_are_no_error() -> None:
    code = (
        "import torch\nfrom reprodebug.recorder import facts\nwatch = facts.SettingsWatch(torch)\nwatch.changed()\n"
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'\ntorch.backends.cudnn.conv.fp32_precision = 'ieee'\n"
        "print(watch.changed()['fp32_precision_cuda_matmul'], watch.changed())"
    )
    if not hasattr(torch._C, "_get_fp32_precision_getter"):
        pytest.skip("this torch has only the old switches")
    assert child(code).split() == ["tf32", "None"]


def test_a_getter_that_raises_is_unreadable() -> None:
    def bad() -> None:
        raise RuntimeError("mixed")

    watch = facts.SettingsWatch(torch)
    watch._getters.append(("broken", bad, ()))
    watch._ask.append((bad, ()))
    found = watch.changed()
    assert found is not None
    assert found["broken"] == facts.UNREADABLE
    assert watch.changed() is None


def test_modules_load_no_lazy_module(monkeypatch) -> None:
    class Lazy(types.ModuleType):
        def __getattribute__(self, name: str) -> object:
            raise AssertionError(f"{name} was looked up")

    monkeypatch.setitem(sys.modules, "lazy_one", Lazy("lazy_one"))
    monkeypatch.setitem(sys.modules, "none_at_all", None)
    found = facts.modules()
    assert "lazy_one" not in found
    assert found["torch"] == torch.__file__


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_libraries_and_build_ids() -> None:
    found = facts.mapped_libraries()
    libc = next(entry for entry in found if entry["name"].startswith("libc.so"))
    assert libc["size"] > 0
    assert any("torch" in entry["name"] for entry in found)
    identity = facts.build_id(libc["path"])
    assert identity is None or len(bytes.fromhex(identity)) >= 8


def test_build_id_of_rubbish(tmp_path) -> None:
    file = tmp_path / "x.so"
    for body in (b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 60, b"\x7fELF\x01\x02" + b"\xff" * 600, b"text"):
        file.write_bytes(body)
        assert facts.build_id(str(file)) is None
    assert facts.build_id(str(tmp_path / "absent")) is None
