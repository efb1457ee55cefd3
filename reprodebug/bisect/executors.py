"""Where trials run: on this machine, several at once if asked for, or as jobs of a Slurm cluster.

An executor runs one prepared candidate and returns what it left; it judges nothing and remembers nothing. Trials that run
at the same time are in different slots: each slot has its own working tree and, on a machine with several GPUs, its own GPU.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Protocol

from reprodebug._base.errors import UsageError
from reprodebug._base.text import visible
from reprodebug.bisect.control import Control
from reprodebug.bisect.trial import Candidate, Executed, Horizon, execute

SLOT: ContextVar[int] = ContextVar("slot", default=0)
"""which of the trials that run at the same time this one is, from 0"""
_CLUSTER_POLL_S = 1.0
_CLUSTER_ASK_S = 30.0
"""how often the scheduler itself is asked about a job; its result is a file, and looking for that costs it nothing"""


def in_slot(path: str) -> str:
    """A directory of the session's, one for each slot."""
    slot = SLOT.get()
    return path if not slot else f"{path}-{slot}"


class Executor(Protocol):
    """Runs trials."""

    slots: int
    """trials that may run at the same time"""
    note: str
    """one sentence where it does otherwise than it was told; or ''"""

    def execute(
        self, candidate: Candidate, folder: str, horizon: Horizon, *, limit: float | None, control: Control, against: str = ""
    ) -> Executed:
        """As ``trial.execute``. May be called in ``slots`` threads at once. Raises Cancelled."""
        ...


class Local:
    """On this machine. With several GPUs one trial for each; no two trials share a GPU, whose timing decides about kernels."""

    def __init__(self, jobs: int = 1, environment: Mapping[str, str] | None = None) -> None:
        self.slots, self.note = jobs, ""
        self._gpus = gpus(os.environ if environment is None else environment) if jobs > 1 else []
        if self._gpus and jobs > len(self._gpus):
            self.slots = len(self._gpus)
            self.note = f"{self.slots} trials run at once, not {jobs}: one for each GPU"

    def execute(
        self, candidate: Candidate, folder: str, horizon: Horizon, *, limit: float | None, control: Control, against: str = ""
    ) -> Executed:
        if self._gpus and self.slots > 1:
            candidate = replace(candidate, environment={**candidate.environment, "CUDA_VISIBLE_DEVICES": self._gpus[SLOT.get()]})
        return execute(candidate, folder, horizon, limit=limit, control=control, against=against)


def gpus(environment: Mapping[str, str]) -> list[str]:
    """Names of the GPUs that a program started with this environment may use, as CUDA_VISIBLE_DEVICES names them."""
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [x.strip() for x in given.split(",") if x.strip() and x.strip() != "-1"]
    try:
        return sorted((n[6:] for n in os.listdir("/dev") if re.fullmatch(r"nvidia\d+", n)), key=int)
    except OSError:
        return []


class Slurm:
    """As jobs of a cluster, through submitit; the session must lie on a file system that the nodes share."""

    def __init__(self, session: str, options: Mapping[str, str], jobs: int = 1) -> None:
        """``options``: parameters of ``submitit.AutoExecutor`` (``slurm_partition``, ``mem_gb``, ...; ``cluster=local`` tries it here).

        Raises UsageError where submitit or Slurm is not there, or an option is not known.
        """
        self.slots, self.note = jobs, ""
        try:
            import submitit
        except ImportError as error:
            raise UsageError("trials on a Slurm cluster need submitit", hint="pip install 'reprodebug[slurm]'") from error
        given: dict[str, Any] = {k: int(v) if v.isdigit() else v for k, v in options.items()}
        cluster = str(given.pop("cluster", "slurm"))
        self._limited = "timeout_min" in given
        try:
            self._submitit = submitit.AutoExecutor(folder=os.path.join(session, "slurm"), cluster=cluster)
            self._submitit.update_parameters(name="reprodebug", **given)
        except (RuntimeError, ValueError, TypeError, NameError, KeyError, OSError, AttributeError) as error:
            raise UsageError(
                f"no job can be submitted: {visible(str(error), 300)}",
                hint="--slurm takes KEY=VALUE,... as submitit names them: --slurm slurm_partition=gpu,gpus_per_node=1",
            ) from error

    def execute(
        self, candidate: Candidate, folder: str, horizon: Horizon, *, limit: float | None, control: Control, against: str = ""
    ) -> Executed:
        if limit and not self._limited:
            self._submitit.update_parameters(timeout_min=math.ceil(limit / 60) + 10)
        sent = replace(candidate, check=None)  # looks at the run afterwards, here
        started = time.time()
        job = self._submitit.submit(execute, sent, folder, horizon, limit=limit, against=against)
        asked = time.monotonic()
        try:
            while not os.path.exists(job.paths.result_pickle):
                control.check()
                time.sleep(_CLUSTER_POLL_S)
                if time.monotonic() - asked > _CLUSTER_ASK_S:
                    asked = time.monotonic()
                    if job.done(force_check=True) and not os.path.exists(job.paths.result_pickle):
                        time.sleep(_CLUSTER_POLL_S)  # a shared file system may show it late
                        if not os.path.exists(job.paths.result_pickle):
                            break
            else:
                result = job.result()
                assert isinstance(result, Executed)
                return result
            reason = f"job {job.job_id} ended without a result ({visible(str(job.state), 60)})"
        except BaseException as error:
            job.cancel(check=False)
            if type(error).__module__.partition(".")[0] != "submitit":
                raise
            reason = f"job {job.job_id} failed: {visible(str(error).strip().splitlines()[-1], 200)}"
        return Executed(os.path.join(folder, "run"), os.path.join(folder, "log.txt"), -1, time.time() - started, None, reason)
