"""What surrounded the command: interpreter, packages, libraries, hardware, system, variables, settings, imported code.

Owns the environment record of ``run.json``, built from what the recorded process said (``recorder/facts.py``) and from
what this machine's files say. Refuses to start the recorded interpreter again or to import anything of its packages.
"""

from __future__ import annotations

import base64
import glob
import hashlib
import json
import os
import platform
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from reprodebug._base import redact
from reprodebug.capture import gpus
from reprodebug.recorder import facts as guest_facts

_FLAGS = re.compile(r"^(avx2|avx512\w*|avx_vnni|avx_ne_convert|amx\w*|fma|f16c|sse4_2|neon|asimd\w*|sve\w*|bf16|i8mm|fphp|vsx|zvfh|v)$")
_KEEP_FILE = 256 << 10
_KEEP_ALL = 4 << 20
"""characters of source kept: of one file, of all together"""
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""the folder of this package"""
_MAX_SEARCHED = 64 << 20
"""bytes of installed packages that are searched for names of variables"""
_QUOTED_NAME = re.compile("[\"'][^\"']+[\"']")
_KNOWN_VARIABLES = ("torch/", "numpy/", "scipy/", "sympy/")
"""packages of which the variables are known by name, or that read none"""
_MAX_EDITED = 5000
_MAX_EDITED_BYTES = 32 << 20
"""installed files checked, and the size above which only the size is checked"""
_INTERPRETER = ("executable", "version", "build", "implementation", "prefix", "base_prefix", "flags", "hash_seed",
                "hash_probe", "sys_path", "locale", "filesystem_encoding", "stdout_encoding",
                "timezone", "umask", "platform", "byteorder")  # fmt: skip


def describe(facts: Mapping[str, Any], *, environ: Mapping[str, str] | None = None, key: bytes | None = None) -> dict[str, object]:
    """The environment record of a process, one mapping per section.

    ``facts`` is everything that its guest said, merged into one mapping: ``start_facts()`` plus ``torch``, ``settings``,
    ``modules`` and ``libraries``. What it lacks (no torch, killed early) is left out or taken from this process; the
    environment variables then are ``environ``, the command's.
    """
    key = redact.machine_key() if key is None else key
    modules = _strings(facts.get("modules"))
    record: dict[str, object] = {"interpreter": {k: facts[k] for k in _INTERPRETER if k in facts}}
    installed = list(_distributions([str(p) for p in facts.get("sys_path") or ()])) if facts.get("sys_path") else []
    if installed:
        record["packages"] = {d.name: d.version for d in installed}
        record["origins"] = {d.name: d.origin(key) for d in installed if d.origin(key)}
    if installed and modules:
        imported = _imported(installed, modules)
        record["imported"] = sorted({d.name for d in imported})
        record["folders"] = _folders(imported)
        record["edited"] = _edited(imported)
    record["libraries"] = _libraries(facts.get("libraries") or ())
    record["hardware"] = _hardware(facts, key)
    record["system"] = _system()
    found = _strings(facts.get("variables")) or dict(os.environ if environ is None else environ)
    record["container"] = _container(found)
    record["variables"] = variables(found, key=key)
    record["named_by_packages"] = _named_by_packages(modules, record["variables"], key)  # type: ignore[arg-type]
    for name in ("torch", "settings"):
        if facts.get(name):
            record[name] = facts[name]
    return record


def _strings(value: object) -> dict[str, str]:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, Mapping) else {}


# packages


@dataclass(slots=True)
class _Distribution:
    """One ``.dist-info`` or ``.egg-info`` folder."""

    name: str
    """normalised as in PEP 503"""
    version: str
    folder: str
    site: str
    files: list[tuple[str, str]] = field(default_factory=list)
    """(module file inside ``site`` with ``/``, absolute path) of the modules that the program imported from it"""

    def record(self) -> dict[str, list[str]]:
        """RECORD: file -> [sha256 in URL-safe base64, size], or [] where it has no hash (PEP 376, 427)."""
        path = os.path.join(self.folder, "RECORD")
        try:
            return _rows(path, os.stat(path).st_mtime_ns)
        except OSError:
            return {}

    def origin(self, key: bytes) -> str:
        """Where it was installed from if from no index: ``editable /path``, ``git+URL@commit``, an archive's URL (PEP 610)."""
        text = _read(os.path.join(self.folder, "direct_url.json"), 1 << 16)
        try:
            found = json.loads(text) if text else {}
            url = redact.redact_text(str(found.get("url", "")), key)
            if found.get("dir_info", {}).get("editable"):
                return f"editable {url.removeprefix('file://')}"
            vcs = found.get("vcs_info", {})
            return f"{vcs.get('vcs', 'git')}+{url}@{vcs.get('commit_id', '?')}" if vcs else url
        except (ValueError, AttributeError):
            return ""


@lru_cache(maxsize=1024)
def _rows(path: str, mtime_ns: int) -> dict[str, list[str]]:
    rows = {}
    for line in _read(path, 64 << 20).splitlines():
        if ".pyc," not in line:
            name, _, rest = line.partition(",sha256=")
            rows[name.rstrip(",").strip('"')] = rest.split(",") if rest else []
    return rows


def _read(path: str, limit: int) -> str:
    try:
        with open(path, "rb") as f:
            return f.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""


def _distributions(sys_path: list[str]) -> Iterator[_Distribution]:
    """Every installed distribution, the first of a name on the path only: as the import system sees them."""
    seen: set[str] = set()
    for site in dict.fromkeys(sys_path):
        try:
            names = sorted(os.listdir(site or "."))
        except OSError:
            continue
        for entry in names:
            if not entry.endswith((".dist-info", ".egg-info")):
                continue
            folder = os.path.join(site, entry)
            head = _read(os.path.join(folder, "METADATA" if entry.endswith(".dist-info") else "PKG-INFO"), 4096)
            name = re.search(r"^Name: *(\S+)", head, re.M | re.I)
            version = re.search(r"^Version: *(\S+)", head, re.M | re.I)
            if name is None or version is None:
                continue
            normal = re.sub(r"[-_.]+", "-", name[1]).lower()
            if normal not in seen:
                seen.add(normal)
                yield _Distribution(normal, version[1], folder, os.path.abspath(site))


def _imported(installed: list[_Distribution], modules: Mapping[str, str]) -> list[_Distribution]:
    """The distributions that own an imported module, with those modules' files."""
    sites = sorted({d.site + os.sep for d in installed}, key=len, reverse=True)
    by_top: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for path in set(modules.values()):
        site = next((s for s in sites if path.startswith(s)), None)
        if site is not None:
            inside = path[len(site) :]
            by_top.setdefault((site[:-1], inside.split(os.sep, 1)[0]), []).append((inside, path))
    found: dict[int, _Distribution] = {}
    for (site, top), files in by_top.items():
        here = [d for d in installed if d.site == site]
        plain = re.sub(r"[-_.]+", "-", top.split(".", 1)[0]).lower()
        likely = [d for d in here if d.name == plain]
        for inside, path in files:
            name = inside.replace(os.sep, "/")
            owner = next((d for d in (*likely, *here) if name in d.record()), likely[0] if likely else None)
            if owner is not None:
                owner.files.append((name, path))
                found[id(owner)] = owner
                if owner not in likely:  # one folder may belong to several distributions (a namespace)
                    likely.insert(0, owner)
    return list(found.values())


def _folders(imported: list[_Distribution]) -> dict[str, str]:
    """Folders and modules that are named otherwise than the one distribution that they came with: folder -> distribution."""
    owners: dict[str, set[str]] = {}
    for d in imported:
        for name, _ in d.files:
            owners.setdefault(name.partition("/")[0].partition(".")[0], set()).add(d.name)
    only = {top: names.pop() for top, names in sorted(owners.items()) if len(names) == 1}
    return {top: name for top, name in only.items() if re.sub(r"[-_.]+", "-", top).lower() != name}


def _edited(imported: list[_Distribution]) -> list[str]:
    """Imported files that are not as they were installed: ``package: file``, told by the hashes in RECORD."""
    edited: list[str] = []
    checked = 0
    for d in imported:
        for name, path in d.files:
            noted = d.record().get(name)
            if not noted or checked >= _MAX_EDITED:
                continue
            checked += 1
            try:
                status = os.stat(path)
                size = status.st_size
                same = len(noted) < 2 or not noted[1].isdigit() or size == int(noted[1])
                if same and size <= _MAX_EDITED_BYTES:
                    same = _digest(path, status.st_mtime_ns, status.st_ino) == noted[0].rstrip("=")
            except OSError:
                continue
            if not same:
                edited.append(f"{d.name}: {name}")
    return sorted(edited)


@lru_cache(maxsize=2 * _MAX_EDITED)
def _digest(path: str, mtime_ns: int, inode: int) -> str:
    """SHA-256 of a file as RECORD writes it; remembered while the file stays as it is, for tools that record many runs."""
    with open(path, "rb") as f:
        return base64.urlsafe_b64encode(hashlib.sha256(f.read()).digest()).rstrip(b"=").decode()


def _named_by_packages(modules: Mapping[str, str], names: Mapping[str, str], key: bytes) -> dict[str, str]:
    """Variable -> ``package/file.py:LINE: text`` of the line in an imported installed package that names it, best one that
    reads it. The sources of packages are not kept, as those of the program are."""
    found: dict[str, str] = {}
    read: set[str] = set()
    pattern = re.compile("[\"'](" + "|".join(map(re.escape, names)) + ")[\"']")
    left = _MAX_SEARCHED
    for path in sorted(set(modules.values())):
        inside = re.search(r"/(?:site|dist)-packages/(.+\.py)$", path)
        if not names or inside is None or inside[1].startswith(_KNOWN_VARIABLES):
            continue
        try:
            status = os.stat(path)
        except OSError:
            continue
        left -= min(status.st_size, _KEEP_FILE)
        if left < 0:
            break
        for number, line in _lines_of_variables(path, status.st_mtime_ns, status.st_ino):
            for match in pattern.finditer(line):
                name, reads = match[1], "environ" in line or "getenv" in line
                if name not in found or (reads and name not in read):
                    found[name] = redact.redact_source(f"{inside[1]}:{number}: {line.strip()[:200]}", key)
                    read.update([name] if reads else [])
    return found


@lru_cache(maxsize=2 * _MAX_EDITED)
def _lines_of_variables(path: str, mtime_ns: int, inode: int) -> tuple[tuple[int, str], ...]:
    """(number, text) of the lines that name something, of a source that asks for variables; remembered as ``_digest`` is."""
    text = _read(path, _KEEP_FILE)
    if "environ" not in text and "getenv" not in text:
        return ()
    return tuple((number, line) for number, line in enumerate(text.splitlines(), 1) if _QUOTED_NAME.search(line))


def _libraries(mapped: Any) -> dict[str, object]:
    """Mapped libraries by name, with build ids; a file that is another one on this side of a container is left as said."""
    found: dict[str, object] = {}
    for library in mapped:
        path, name, size = str(library.get("path", "")), str(library.get("name", "")), library.get("size")
        if not name or name in found:
            continue
        entry: dict[str, object] = {"path": path, "size": size}
        try:
            if os.stat(path).st_size == size:
                entry["build_id"] = guest_facts.build_id(path)
        except OSError:
            pass
        found[name] = entry
    return found


# machine


def _hardware(facts: Mapping[str, Any], key: bytes) -> dict[str, object]:
    record: dict[str, object] = {"machine": facts.get("machine") or os.uname().machine}
    info = _read("/proc/cpuinfo", 1 << 22)
    if info:
        first = dict(re.findall(r"^([^\t:\n]+?)\s*: ?(.*)$", info.split("\n\n", 1)[0], re.M))
        arm = [first[k] for k in ("CPU implementer", "CPU part", "CPU variant") if k in first]
        record["cpu"] = first.get("model name") or first.get("cpu") or first.get("uarch") or " ".join(["ARM", *arm])
        flags = (first.get("flags") or first.get("Features") or first.get("isa") or "").split()
        record["cpu_flags"] = sorted(f for f in flags if _FLAGS.match(f))
        cores = set(re.findall(r"^physical id\s*: (\d+)[\s\S]*?^core id\s*: (\d+)", info, re.M))
        record["cores"] = len(cores) or None
    elif sys.platform == "darwin":
        record["cpu"] = _sysctl("machdep.cpu.brand_string")
    record["logical_cpus"] = facts.get("cpu_count") or os.cpu_count()
    record["cpus_allowed"] = facts.get("cpus_allowed")
    try:
        record["ram_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (ValueError, OSError):
        record["ram_gib"] = None
    torch = facts.get("torch")
    found = gpus.described(torch.get("cuda_devices") if isinstance(torch, Mapping) else None, key)
    if not found.get("gpus"):
        cards = (_read(path, 4096) for path in sorted(glob.glob("/proc/driver/nvidia/gpus/*/information")))
        found["gpus"] = [{"name": m[1].strip()} for m in (re.search(r"^Model:\s*(.+)$", card, re.M) for card in cards) if m]
    driver = re.search(r"Kernel Module.*?\s(\d[\d.]+)\s", _read("/proc/driver/nvidia/version", 4096))
    if driver:
        found.setdefault("nvidia_driver", driver[1])
    record.update(found)
    return record


def _sysctl(name: str) -> str | None:
    import subprocess

    try:
        done = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _system() -> dict[str, object]:
    uname = os.uname()
    pretty = re.search(r'^PRETTY_NAME="?([^"\n]*)', _read("/etc/os-release", 1 << 16), re.M)
    record: dict[str, object] = {
        "os": pretty[1] if pretty else f"{uname.sysname} {platform.mac_ver()[0]}".strip(),
        "kernel": f"{uname.sysname} {uname.release}",
        "host": uname.nodename,
    }
    try:
        record["libc"] = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        record["libc"] = None
    return record


def _container(variables: Mapping[str, str]) -> dict[str, object]:
    """What kind of container this is, by its usual marks; ``{"kind": None}`` outside any."""
    groups = _read("/proc/self/cgroup", 1 << 16)
    image = next((variables[k] for k in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER", "container_image") if variables.get(k)), None)
    kind = None
    if "APPTAINER_CONTAINER" in variables or "SINGULARITY_CONTAINER" in variables:
        kind = "apptainer"
    elif "KUBERNETES_SERVICE_HOST" in variables or "kubepods" in groups:
        kind = "kubernetes"
    elif os.path.exists("/run/.containerenv") or "libpod" in groups:
        kind = "podman"
        found = re.search(r'^image="?([^"\n]*)', _read("/run/.containerenv", 1 << 16), re.M)
        image = found[1] if found else image
    elif os.path.exists("/.dockerenv") or "docker" in groups:
        kind = "docker"
    scheduler = "slurm" if "SLURM_JOB_ID" in variables else None
    return {"kind": kind, "image": image, "scheduler": scheduler}


def variables(environ: Mapping[str, str] | None = None, *, key: bytes | None = None) -> dict[str, str]:
    """The command's environment as the user set it up: without what reprodebug put in, secrets masked."""
    key = redact.machine_key() if key is None else key
    hook = os.path.join(_OURS, "recorder", "hook")
    found: dict[str, str] = {}
    for name, value in sorted((os.environ if environ is None else environ).items()):
        if name.startswith("REPRODEBUG_"):
            continue
        if name == "PYTHONPATH" and hook in value.split(os.pathsep):
            value = os.pathsep.join(p for p in value.split(os.pathsep) if p != hook)
            if not value:
                continue
        found[name] = value if value.startswith("<redacted ") else redact.redact_value(name, value, key)[:4096]
    return found


# code


def scan_modules(
    modules: Mapping[str, str], sys_path: list[str], cwd: str, *, started: float | None = None, key: bytes | None = None
) -> dict[str, dict[str, object]]:
    """The project's own imported files: label -> ``hash``, ``size`` and, for source, the ``text`` (bounded, secrets masked).

    The label is the path inside ``cwd``, else inside the entry of ``sys_path`` that holds the file. Files of the standard
    library, of installed packages and of reprodebug itself are left out. ``started`` (seconds since the epoch) marks
    a file that was changed after the program had read it.
    """
    from reprodebug.recorder.files import hash_file
    from reprodebug.recorder.fingerprint import hasher

    key = redact.machine_key() if key is None else key
    ours = _OURS + os.sep
    stdlib = _stdlib(sys_path)
    roots = sorted({os.path.abspath(os.path.join(cwd, p)) for p in sys_path}, key=len, reverse=True)
    algorithm, _, new = hasher()
    found: dict[str, dict[str, object]] = {}
    kept = 0
    for path in sorted({os.path.abspath(os.path.join(cwd, p)) for p in modules.values()}):
        if path.startswith((*stdlib, ours)) or f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path:
            continue
        root = next((r for r in (cwd, *roots) if path.startswith(r.rstrip(os.sep) + os.sep)), None)
        label = os.path.relpath(path, root) if root else path
        try:
            info = os.stat(path)
            if not stat.S_ISREG(info.st_mode):
                continue
            digest, _ = hash_file(path, info.st_size, algorithm, new)
        except OSError as error:
            found[label] = {"size": None, "why": f"not readable: {error.strerror or error}"}
            continue
        entry: dict[str, object] = {"hash": digest, "size": info.st_size}
        if started is not None and info.st_mtime > started:
            entry["why"] = "changed after the program started: what ran may have been older"
        if path.endswith(".py") and info.st_size <= _KEEP_FILE and kept + info.st_size <= _KEEP_ALL:
            kept += info.st_size
            entry["text"] = redact.redact_source(_read(path, _KEEP_FILE), key)
        found[label] = entry
    return found


def _stdlib(sys_path: list[str]) -> tuple[str, ...]:
    """Folders of the recorded interpreter's standard library: the entry next to ``lib-dynload``, and this interpreter's own."""
    found = {os.path.dirname(os.__file__)}
    for p in sys_path:
        if os.path.basename(p) == "lib-dynload":
            found |= {p, os.path.dirname(p)}
    return tuple(os.path.abspath(p) + os.sep for p in found)
