"""Floor 1: what things are. Plain frozen dataclasses and enumerations; no behaviour beyond their own consistency."""
