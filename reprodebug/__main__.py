"""``python -m reprodebug``."""

from __future__ import annotations

from reprodebug.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
