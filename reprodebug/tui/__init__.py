"""The terminal interface: one function for each thing that can be opened.

Owns the way in and the exit code. Importing this package imports nothing heavy; Textual is imported when a screen opens.
Refuses to decide whether there is a terminal: the command line does that, and prints text where there is none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reprodebug.model.comparison import Comparison


def run_compare(load: Callable[[], Comparison]) -> int:
    """Open the compare screen on what ``load`` returns; ``load`` runs in a thread while a loading screen is shown.

    Returns the exit code: 0 identical or equivalent, 1 divergent, 3 incomparable, 2 where the runs could not be read,
    130 where the user left before the comparison was ready. A failure is repeated on stderr, since the screen is gone.
    """
    from reprodebug.tui.app import CompareApp

    app = CompareApp(load)
    code = app.run()
    if app.last_words:
        sys.stderr.write(app.last_words + "\n")
    return (app.return_code or 1) if code is None else code
