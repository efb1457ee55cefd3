"""Draw the pictures of the README from the recorded sample pairs."""

import dataclasses
import pathlib

from reprodebug import api
from reprodebug.tui.picture import save

HERE = pathlib.Path(__file__).resolve().parent
PICTURES = {
    # file: (pair, size, keys)
    "screenshot.svg": ("forgotten-train-mode", (120, 36), ""),
    "screenshot-steps.svg": ("extra-draw", (120, 30), "2"),
    "screenshot-random-state.svg": ("extra-draw", (120, 30), "3"),
    "screenshot-walk.svg": ("changed-package", (100, 26), "wlll"),
}

if __name__ == "__main__":
    for file, (pair, size, keys) in PICTURES.items():
        comparison, evidence = api.examine(str(HERE / pair / "a"), str(HERE / pair / "b"))
        sides = {n: dataclasses.replace(getattr(comparison, n), path=f"sample_runs/{pair}/{n}") for n in "ab"}
        save(dataclasses.replace(comparison, **sides), evidence, str(HERE / file), size, keys)
        print(HERE / file)
