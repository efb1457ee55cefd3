"""The environment record, from real and from made-up installations."""

import base64
import hashlib
import json
import os
import sys
import time

import pytest

from reprodebug.capture import environment
from reprodebug.recorder import facts

KEY = b"k" * 32


def install(site, name: str, version: str, files: dict[str, str], direct_url: dict | None = None) -> None:
    """A package as pip leaves it."""
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nVersion: 9\n")
    lines = []
    for path, text in files.items():
        file = site / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text)}")
    (folder / "RECORD").write_text("\n".join([*lines, f"{name}-{version}.dist-info/RECORD,,"]) + "\n")
    if direct_url is not None:
        (folder / "direct_url.json").write_text(json.dumps(direct_url))


@pytest.fixture
def site(tmp_path):
    site = tmp_path / "lib" / "site-packages"
    install(site, "Scikit_Thing", "1.2", {"skthing/__init__.py": "x = 1\n", "skthing/core.py": "y = 1\n"})
    install(site, "space-a", "1", {"space/a.py": "a = 1\n"})
    install(site, "space-b", "2", {"space/b.py": "b = 1\n"})
    install(site, "unused", "3", {"unused.py": "\n"})
    secret = "https://me:" + "hunter2@host/x.git"
    install(site, "fromgit", "4", {"fromgit.py": "\n"}, {"url": secret, "vcs_info": {"vcs": "git", "commit_id": "abc"}})
    install(site, "mine", "5", {}, {"url": "file:///home/me/mine", "dir_info": {"editable": True}})
    return site


def said(site, *modules: str) -> dict:
    return {"sys_path": [str(site)], "modules": {m: str(site / m) for m in modules}, "variables": {"A": "1"}}


def test_packages_origins_and_imports(site) -> None:
    later = site.parent / "later"
    install(later, "unused", "99", {})
    found = environment.describe({**said(site, "skthing/core.py", "space/b.py"), "sys_path": [str(site), str(later), "/absent"]}, key=KEY)
    assert found["packages"] == {
        "scikit-thing": "1.2",
        "space-a": "1",
        "space-b": "2",
        "unused": "3",
        "fromgit": "4",
        "mine": "5",
    }
    assert found["imported"] == ["scikit-thing", "space-b"]
    assert found["folders"] == {"skthing": "scikit-thing", "space": "space-b"}
    assert found["edited"] == []
    assert found["origins"]["mine"] == "editable /home/me/mine"
    assert found["origins"]["fromgit"].startswith("git+https://me:<redacted ")
    assert "hunter2" not in json.dumps(found)


def test_a_folder_of_two_distributions_is_nobody_s(site) -> None:
    assert environment.describe(said(site, "space/a.py", "space/b.py"), key=KEY)["folders"] == {}


def test_variables_that_an_imported_package_names(site) -> None:
    core = "NAMES = ('MODE', 'DEPTH')\nimport os\nmode = os.environ.get('MODE')\n"
    install(site, "reader", "1", {"reader/core.py": core, "reader/unused.py": core, "reader/names.py": "X = 'SHADE'\n"})
    values = {"MODE": "1", "DEPTH": "2", "SHADE": "3", "ODE": "4"}
    found = environment.describe({**said(site, "reader/core.py", "reader/names.py"), "variables": values}, key=KEY)
    assert found["named_by_packages"] == {
        "MODE": "reader/core.py:3: mode = os.environ.get('MODE')",
        "DEPTH": "reader/core.py:1: NAMES = ('MODE', 'DEPTH')",
    }
    assert environment.describe({**said(site), "variables": {}}, key=KEY)["named_by_packages"] == {}


def test_edited_package_files(site) -> None:
    (site / "skthing" / "core.py").write_text("y = 2\n")
    (site / "unused.py").write_text("edited = True\n")
    found = environment.describe(said(site, "skthing/__init__.py", "skthing/core.py"), key=KEY)
    assert found["edited"] == ["scikit-thing: skthing/core.py"]


def test_this_process() -> None:
    torch = pytest.importorskip("torch")
    own = facts.start_facts() | {"modules": facts.modules(), "libraries": facts.mapped_libraries()}
    own["torch"] = facts.torch_facts(torch, used=True)
    own["settings"] = facts.settings(torch, used=True)
    own = json.loads(json.dumps(own))
    found = json.loads(json.dumps(environment.describe(own)))
    assert found["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"torch", "numpy", "pytest"} <= set(found["imported"])
    assert found["interpreter"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert found["hardware"]["logical_cpus"] == os.cpu_count()
    assert found["settings"]["intra_op_threads"] == torch.get_num_threads()
    if sys.platform == "linux":
        assert found["hardware"]["cpu"]
        assert any("build_id" in entry for entry in found["libraries"].values())


def test_nothing_said_is_no_error() -> None:
    found = environment.describe({}, environ={"HF_TOKEN": "hunter2", "HOME": "/home/me"}, key=KEY)
    assert found["variables"]["HOME"] == "/home/me"
    assert "hunter2" not in json.dumps(found)
    assert "packages" not in found


def test_rubbish_is_no_error() -> None:
    wrong = {
        "sys_path": ["/absent", ""],
        "modules": {"a": "x"},
        "libraries": [{"path": "/absent", "name": "l.so"}],
        "torch": "unreadable",
    }
    json.dumps(environment.describe(wrong, environ={}, key=KEY))


def test_variables_leave_our_own_out() -> None:
    hook = os.path.join(os.path.dirname(os.path.abspath(environment.__file__)), "..", "recorder", "hook")
    hook = os.path.normpath(hook)
    token = "AKIA" + "IOSFODNN7EXAMPLE"
    found = environment.variables({"REPRODEBUG_RUN": "x", "PYTHONPATH": f"{hook}{os.pathsep}/mine", "WORDS": token, "A": "1"}, key=KEY)
    assert found["PYTHONPATH"] == "/mine"
    assert found["A"] == "1"
    assert set(found) == {"PYTHONPATH", "WORDS", "A"}
    assert token not in found["WORDS"]
    assert environment.variables({"PYTHONPATH": hook}, key=KEY) == {}


@pytest.mark.parametrize(
    ("variables", "kind"),
    [({"APPTAINER_CONTAINER": "/x/y.sif"}, "apptainer"), ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes")],
)
def test_containers(variables: dict, kind: str) -> None:
    found = environment.describe({}, environ={**variables, "SLURM_JOB_ID": "7"}, key=KEY)
    assert found["container"]["kind"] == kind
    assert found["container"]["scheduler"] == "slurm"


def test_scan_modules(tmp_path, site) -> None:
    project, library = tmp_path / "project", tmp_path / "src"
    (project / "pkg").mkdir(parents=True)
    library.mkdir()
    (project / "train.py").write_text('api_key = "hunter22"\nlr = 1\n')
    (project / "pkg" / "net.py").write_text("x = 1\n")
    (library / "helper.py").write_text("y = 1\n")
    (project / "big.py").write_text("# x\n" * 100_000)
    modules = {
        "__main__": "train.py",
        "pkg.net": str(project / "pkg" / "net.py"),
        "helper": str(library / "helper.py"),
        "big": str(project / "big.py"),
        "os": os.__file__,
        "skthing": str(site / "skthing" / "core.py"),
        "gone": str(project / "gone.py"),
        "r": environment.__file__,
    }
    found = environment.scan_modules(modules, [str(project), str(library)], str(project), started=time.time() + 60, key=KEY)
    assert sorted(found) == ["big.py", "gone.py", "helper.py", "pkg/net.py", "train.py"]
    assert found["helper.py"]["text"] == "y = 1\n"
    assert "hunter22" not in json.dumps(found)
    assert "text" not in found["big.py"]
    assert "why" in found["gone.py"]
    assert "why" not in found["train.py"]
    later = environment.scan_modules(modules, [str(project)], str(project), started=1.0, key=KEY)
    assert "changed after" in str(later["train.py"]["why"])
