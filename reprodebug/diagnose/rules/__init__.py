"""The rules, one file per category of cause; those of the random state in two. Importing this package registers all of them."""

from reprodebug.diagnose.rules import (
    code,
    configuration,
    data,
    environment,
    hardware,
    implicit_state,
    precision,
    race,
    random_state,
    seeds,
)

__all__ = [
    "code", "configuration", "data", "environment", "hardware", "implicit_state", "precision", "race", "random_state", "seeds",
]  # fmt: skip
