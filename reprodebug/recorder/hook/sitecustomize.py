"""Start-up hook: found first on PYTHONPATH by every Python that ``reprodebug capture`` starts, directly or not.

Does nothing but wait for ``import torch``; the guest is loaded when that import has finished, never before.
Chains to the sitecustomize that this file hides. Runs on any Python 3, so it stays in old syntax.
"""

import os
import sys


def _later(name):
    """The finder's own search: every other finder, in order."""
    for finder in sys.meta_path:
        if not isinstance(finder, _TorchFinder):
            find = getattr(finder, "find_spec", None)
            spec = find(name, None, None) if find is not None else None
            if spec is not None:
                return spec
    return None


def _failed(run, error):
    try:
        with open(os.path.join(run, "journal", "failed-%d.txt" % os.getpid()), "w") as f:
            f.write("%s: %s" % (type(error).__name__, error))
    except OSError:
        pass


class _Loader:
    """Runs the real loader, gives the module back its real loader, then lets the guest in."""

    def __init__(self, loader):
        self._loader = loader

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        real = self._loader
        spec = getattr(module, "__spec__", None)
        if spec is not None:
            spec.loader = real
        module.__loader__ = real
        sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, _TorchFinder)]
        real.exec_module(module)
        run = os.environ.get("REPRODEBUG_RUN")
        if not run:
            return
        try:
            _guest().start(module, run)
        except Exception as error:
            _failed(run, error)


class _TorchFinder:
    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        spec = _later(name)
        if spec is not None and hasattr(spec.loader, "exec_module") and not isinstance(spec.loader, _Loader):
            spec.loader = _Loader(spec.loader)
        return spec


def _guest():
    """reprodebug.recorder.guest, from this very installation, whatever environment the program runs in."""
    import importlib

    _package()
    return importlib.import_module("reprodebug.recorder.guest")


def _package():
    """The package reprodebug of this very installation."""
    import importlib.util

    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    known = sys.modules.get("reprodebug")
    if known is None:
        if sys.version_info < (3, 9):
            raise RuntimeError("the recorder needs Python 3.9 or newer in the recorded program, this is %d.%d" % sys.version_info[:2])
        spec = importlib.util.spec_from_file_location("reprodebug", os.path.join(home, "__init__.py"), submodule_search_locations=[home])
        package = importlib.util.module_from_spec(spec)
        sys.modules["reprodebug"] = package
        spec.loader.exec_module(package)


def _chain():
    """Run the sitecustomize that this one hides, and leave sys.path as it would be without us."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if not p or os.path.abspath(p) != here]
    this = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if getattr(error, "name", None) != "sitecustomize":
            raise
        if this is not None:
            sys.modules["sitecustomize"] = this
    # `import` ends by looking the module up under its name


def _impose():
    """What a trial of an experiment asks for before the program's first line; nothing in a recording."""
    import importlib

    try:
        _package()
        imposed = importlib.import_module("reprodebug.recorder.imposed")
        imposed.at_start(imposed.imposed())
    except Exception as error:
        _failed(os.environ["REPRODEBUG_RUN"], error)


if os.environ.get("REPRODEBUG_RUN"):
    sys.meta_path.insert(0, _TorchFinder())
    if os.environ.get("REPRODEBUG_IMPOSE"):
        _impose()
_chain()
