"""What every test relies on, however the test run was started."""

import signal
from pathlib import Path

import pytest

GPU = Path(__file__).parent / "gpu"


def pytest_configure() -> None:
    """Signals reach the programs that the tests start.

    A test run that was put into the background (``make test &``, ``nohup``, a CI runner's wrapper) inherits SIGINT or SIGHUP as
    ignored, and so would every program under test: the tests of signals would wait for an end that cannot come. A handler,
    unlike an ignored signal, is not inherited.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """``-m gpu`` alone looks at tests/gpu only: a machine with a GPU need not have what the other tests import."""
    if config.option.markexpr == "gpu" and collection_path.suffix == ".py" and GPU not in collection_path.parents:
        return True
    return None
