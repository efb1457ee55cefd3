"""Record every sample pair again: ``python sample_runs/make.py [--gpu] [--side a|b] [PAIR...]``. With ``--gpu`` those in ``gpu``, on an
NVIDIA GPU; with ``--side`` that side only. A pair whose sides take a machine each is recorded by ``--side`` alone.

Each folder with a ``pair.toml`` is a pair: the script, the two ways of running it, and the expected answer. Each side runs
in a folder of its own with a minimal environment, so that the records hold nothing of the machine's owner.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
WORK = pathlib.Path(tempfile.gettempdir()) / "reprodebug-samples"


def package(folder: pathlib.Path, name: str, version: str, source: str) -> None:
    """Install a package of one module by hand: its files, METADATA and RECORD, as an installer leaves them."""
    folder.mkdir(parents=True)
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(source)
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "INSTALLER").write_text("pip\n")
    (info / "RECORD").write_text(f"{name}/__init__.py,,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n")
    (info / "top_level.txt").write_text(name + "\n")


def record(pair: pathlib.Path, side: str, out: pathlib.Path, root: pathlib.Path) -> None:
    """Record one side of a pair into ``out``."""
    truth = tomllib.loads((pair / "pair.toml").read_text())
    run = truth["run"][side]
    work = root / side
    work.mkdir(parents=True)
    source = (HERE / "scripts" / truth["script"]).read_text()
    for old, new in run.get("replace", {}).items():
        assert old in source, f"{pair.name}: the script does not hold {old!r}"
        source = source.replace(old, new)
    (work / "train.py").write_text(source)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(root),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
    environment |= (
        {k: os.environ[k] for k in ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "PYTHONPATH") if k in os.environ}
        if "gpu" in pair.parts
        else {}
    )
    environment |= run.get("env", {})
    if "package" in run:
        site = root / f"site-{side}"
        package(site, **run["package"])
        environment["PYTHONPATH"] = str(site)
    command = [sys.executable, "-m", "reprodebug", "capture", "-o", str(out), "--level", truth.get("level", "fingerprint"), "--"]
    command += [sys.executable, "train.py", *run.get("arguments", [])]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{pair.name} {side} failed:\n{done.stderr}")


def neutral(out: pathlib.Path) -> None:
    """Put neutral names in the place of this machine's folders. Nothing else of the record is touched."""
    from reprodebug.store.trace import read_trace, write_trace

    folders = {
        str(WORK): "/tmp/reprodebug-samples",
        str(HERE.parent): "/src/reprodebug",
        sys.prefix: "/opt/venv",
        sys.base_prefix: "/usr/local",
    }

    def renamed(text: str) -> str:
        for folder, name in folders.items():
            text = text.replace(folder, name)
        return text

    manifest = out / "run.json"
    manifest.write_text(renamed(manifest.read_text()))
    for path in out.glob("*.h5"):
        trace = read_trace(str(path))
        trace.notes_meta = json.loads(renamed(json.dumps(trace.notes_meta)))
        write_trace(trace, str(path))


def make(pair: pathlib.Path, into: pathlib.Path, sides: str = "ab") -> None:
    """Record the sides of a pair into ``into``/a and ``into``/b."""
    shutil.rmtree(WORK, ignore_errors=True)
    for side in sides:
        out = into / side
        shutil.rmtree(out, ignore_errors=True)
        record(pair, side, out, WORK)
        neutral(out)
    shutil.rmtree(WORK, ignore_errors=True)


def pairs(gpu: bool = False) -> list[pathlib.Path]:
    return sorted(p.parent for p in HERE.glob("gpu/*/pair.toml" if gpu else "*/pair.toml"))


def one_machine(pair: pathlib.Path) -> bool:
    """Whether both sides of a pair are recorded on the same machine."""
    return bool(tomllib.loads((pair / "pair.toml").read_text()).get("one_machine", True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--side", choices=("a", "b"))
    parser.add_argument("names", nargs="*", metavar="PAIR")
    arguments = parser.parse_args()
    for found in pairs(arguments.gpu):
        if (arguments.side or one_machine(found)) and (not arguments.names or found.name in arguments.names):
            make(found, found, arguments.side or "ab")
            size = sum(f.stat().st_size for f in found.rglob("*") if f.is_file())
            print(f"{found.name:24} {size / 1024:7.0f} KiB", flush=True)
