"""What every test relies on, however the test run was started."""

import signal


def pytest_configure() -> None:
    """Ctrl-C reaches the programs that the tests start.

    A test run that a shell puts into the background (``make test &``, a CI runner's wrapper) inherits SIGINT as ignored, and
    so would every program under test: the tests of Ctrl-C would then wait for an end that cannot come.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
