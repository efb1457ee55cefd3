"""Draw the pictures of the README from the recorded sample pairs."""

import pathlib

from reprodebug import api
from reprodebug.tui.picture import save

HERE = pathlib.Path(__file__).resolve().parent

if __name__ == "__main__":
    pair = HERE / "forgotten-train-mode"
    comparison = api.compare(str(pair / "a"), str(pair / "b"))
    save(comparison, str(HERE / "screenshot.svg"), size=(110, 34))
    print(HERE / "screenshot.svg")
