"""Which recorded pair each rule of ``reprodebug.diagnose.rules`` has to win, and on which it has to stay silent."""

SILENT = 0.3
"""a cause below this is a guess, not an answer"""

CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "own-01-dropout": ("layer settings", ("random module", "missing or other seed")),
    "own-02-tied": ("options", ("construction order",)),
    "own-05-schedule": ("optimizer settings", ("optimizer state not restored", "nondeterministic kernel")),
    "own-08-clip": ("changed code", ("packages", "options")),
    "own-10-data-changed": ("file content", ("leftover file", "reading order")),
    "own-11-debug-draw": ("extra draws", ("missing or other seed", "construction order")),
    "own-14-empty": ("uninitialised memory", ("clock or process id", "order of arrival")),
    "own-15-env-path": ("variables", ("options", "hash order")),
    "own-17-mkldnn": ("kernel settings", ("processor", "threads", "nondeterministic kernel")),
    "own-19-mtime": ("reading order", ("hash order", "loader settings")),
    "own-21-package": ("packages", ("changed code", "interpreter and libraries")),
    "own-23-queue": ("order of arrival", ("uninitialised memory", "loader workers")),
    "own-24-resume-momentum": ("optimizer state not restored", ("resume without random state", "optimizer settings")),
    "own-25-shuffle": ("loader settings", ("reading order", "loader workers")),
    "own-26-split-hash": ("hash order", ("reading order", "variables")),
    "own-27-stats": ("leftover file", ("file content", "files of one run")),
    "own-29-projection": ("construction order", ("extra draws", "missing or other seed")),
    "own-30-requeued": ("resume without random state", ("missing or other seed", "leftover file")),
    "own-31-loaders": ("loader workers", ("loader settings", "order of arrival")),
    "own-32-clock": ("clock or process id", ("uninitialised memory", "order of arrival")),
    "own-33-folds": ("files of one run", ("file content", "clock or process id")),
    "own-35-torch-cache": ("leftover file", ("other checkpoint", "clock or process id")),
    "own-36-shown-samples": ("extra draws", ("options", "missing or other seed")),
    "own-37-home-weights": ("other checkpoint", ("file content", "leftover file")),
    "own-38-object-set": ("order of addresses", ("hash order", "generator made without a seed")),
    "own-39-random-object": ("generator made without a seed", ("order of addresses", "clock or process id")),
    "own-40-rendering-pool": ("order of arrival", ("clock or process id", "hash order", "generator of several threads")),
    "own-41-gradient-race": ("order of arrival", ("clock or process id", "uninitialised memory")),
    "own-42-time-budget": ("optimizer settings", ("clock or process id", "nondeterministic kernel")),
    "own-43-time-zone": ("variables", ("hash order", "interpreter and libraries")),
    "own-44-build-order": ("construction order", ("extra draws", "seeded too late")),
    "own-45-sqlite": ("file content", ("files of one run", "hash order")),
    "own-46-late-seed": ("seeded too late", ("uninitialised memory", "missing or other seed")),
    "own-47-assertion": ("interpreter and libraries", ("packages", "hash order", "order of addresses")),
    "own-48-processor": ("processor", ("threads", "kernel settings", "random module")),
    "own-49-foreign-noise": ("random module", ("layer settings", "train or eval mode", "nondeterministic kernel")),
    "own-50-folder": ("folder of the run", ("file content", "reading order", "resume without place in the data")),
    "own-51-mid-epoch": ("resume without place in the data", ("resume without random state", "other checkpoint")),
    "own-52-prefix": ("variables", ("hash order", "folder of the run")),
    "own-53-groups": ("changed code", ("parameters that one run trains", "optimizer settings", "nondeterministic kernel")),
    "own-54-plugin": ("extra draws", ("missing or other seed", "construction order")),
    "own-55-cores": ("number of cores", ("threads", "hash order", "options")),
    "own-56-old-head": ("changed code", ("optimizer settings", "optimizer state not restored")),
    "own-57-thinned": ("hash order", ("loader settings", "number of cores", "names made anew")),
    "own-58-budget": ("end of the training", ("train or eval mode", "order of arrival")),
    "own-59-unpacked": ("names made anew", ("reading order", "clock or process id", "end of the training")),
    "own-60-peek": ("extra draws", ("options", "construction order")),
    "own-61-schedule-anew": ("optimizer settings", ("resume without place in the data", "end of the training")),
    "own-62-key-order": ("file content", ("hash order", "number of cores")),
    "own-63-majority": ("hash order", ("nondeterministic kernel", "order of addresses")),
    "own-64-average": ("optimizer state not restored", ("optimizer settings", "end of the training")),
    "own-65-user": ("missing or other seed", ("extra draws", "folder of the run")),
    "own-66-cut-job": ("optimizer state not restored", ("end of the training", "work beside the training")),
    "own-67-log-often": ("work beside the training", ("hash order", "extra draws")),
    "own-68-clicks-twice": ("loader workers", ("options", "end of the training")),
    "own-69-feeder": ("generator of several threads", ("extra draws", "order of arrival", "clock or process id")),
    "own-70-rewritten": ("changed code", ("file content", "hash order", "missing or other seed")),
    "own-71-frozen": ("parameters that one run trains", ("options", "optimizer settings", "missing or other seed")),
    "own-72-alphabet": ("variables", ("layer settings", "extra draws")),
}
"""own case -> (the rule that wins, rules that stay below SILENT)"""

SAMPLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "cpu-capability": ("processor", ("threads", "graphics processor", "missing or other seed")),
    "changed-package": ("packages", ("changed code", "dtype or autocast")),
    "forgotten-train-mode": ("train or eval mode", ("layer settings", "random module")),
    "matmul-precision": ("reduced precision", ("processor", "threads", "nondeterministic kernel")),
    "missing-seed": ("missing or other seed", ("resume without random state", "extra draws")),
    "precision": ("dtype or autocast", ("reduced precision", "processor")),
    "race": ("nondeterministic kernel", ("threads", "uninitialised memory", "processor")),
    "threads": ("threads", ("processor", "graphics processor", "kernel settings")),
}
"""sample pair -> the same"""

UNTRIED = {
    "graphics processor": "needs two kinds of GPU",
}
"""rules that no pair recorded here can make win, and why"""
