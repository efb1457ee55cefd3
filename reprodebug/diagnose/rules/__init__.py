"""The rules, one file per category of cause. Importing this package registers all of them."""

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
)

__all__ = [
    "code", "configuration", "data", "environment", "hardware", "implicit_state", "precision", "race", "random_state",
]  # fmt: skip
