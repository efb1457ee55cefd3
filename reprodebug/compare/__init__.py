"""Floor 4: align two runs, find what differs and what is first. The one place that decides "equal" and "first"."""
