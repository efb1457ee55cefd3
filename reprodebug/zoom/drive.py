"""Zoom as a whole: what to look at, both runs again, where the difference came in, how large it is."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from reprodebug._base.errors import NothingComparable, UsageError
from reprodebug._base.text import plural, visible
from reprodebug.bisect import process
from reprodebug.bisect.recorded import Again
from reprodebug.bisect.session import MARK, hold, home
from reprodebug.bisect.trial import Untestable
from reprodebug.compare import restarts
from reprodebug.compare.importance import MADE_BY_THE_OTHER
from reprodebug.compare.runs import Examined, examine
from reprodebug.diagnose.scene import LIBRARY_THREAD
from reprodebug.model import zoom as model
from reprodebug.model.comparison import Comparison, Divergence
from reprodebug.model.zoom import Size, Zoom
from reprodebug.store.run import StoredRun, is_run, open_run
from reprodebug.zoom import counterfactual, look
from reprodebug.zoom import origin as origins
from reprodebug.zoom.log import Log, workers
from reprodebug.zoom.rerun import NotRepeatable, Repeat, Runner, Unfollowed
from reprodebug.zoom.sizes import size_of
from reprodebug.zoom.window import Bounds, bounds, widest

MAX_BYTES = 1 << 30
"""bytes of operations and tensors that are written for each execution"""
_PREFIX = "zoom-"
_ATTEMPTS = 3
"""executions of both until they part, where neither repeats its recording"""


@dataclass(frozen=True, slots=True)
class Request:
    """What ``zoom`` was asked."""

    a: str
    b: str
    max_bytes: int = MAX_BYTES
    timeout: float | None = None
    """seconds that one execution may take"""
    counterfactual: bool = False
    keep: str = ""
    """a new directory in which the executions are kept"""


def zoom(request: Request, *, say: Callable[[str], None] = lambda text: None) -> Zoom:
    """Find the first differing operation of two recorded runs. Raises UsageError and other ReprodebugErrors."""
    started = time.monotonic()
    a, b = _recorded(request)
    try:
        examined = examine(a, b)
    except NothingComparable as error:
        raise UsageError(error.message, hint=error.hint) from error
    c = examined.comparison
    paths = (request.a, request.b)
    if c.first is None or examined.pair is None:
        return Zoom(model.NOT_FOUND, "", f"the two recordings do not part: {c.reason}", None, paths=paths,
                    remedy="there is nothing to zoom into")  # fmt: skip
    on, step = restarts.goes_on([examined.pair.a], [examined.pair.b])
    if step:
        return Zoom(model.NOT_FOUND, "", f"{on}, and zoom follows two runs from their beginning", c.first, paths=paths,
                    remedy="record the other one from the same checkpoint too")  # fmt: skip
    for name, trace in (("A", examined.pair.a), ("B", examined.pair.b)):
        if (n := restarts.parts(trace)) > 1:
            why = f"{name} did this in {n} processes, one after the other, and zoom follows one"
            return Zoom(model.NOT_FOUND, "", why, c.first, paths=paths, remedy="record the part that goes on from the checkpoint by itself")
    folder, lock = _folder(request.keep)
    again: list[Again] = []
    try:
        for name, run in (("A", a), ("B", b)):
            again.append(Again(run, name, os.path.join(folder, name.lower()), _made(c, name)))
        found = _Search(request, examined, again, folder, say).answer()
    finally:
        for x in again:
            x.leave()
        process.end_marked(MARK, folder)
        if request.keep:
            for name in ("a", "b"):
                for part in ("work", "project", "repository"):
                    shutil.rmtree(os.path.join(folder, name, part), ignore_errors=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        if lock >= 0:
            os.close(lock)
    kept = [f"the executions are kept in {folder}"] if request.keep else []
    notes = tuple(dict.fromkeys([*found.notes, *(n for x in again for n in x.place_notes), *kept]))
    return replace(found, notes=notes, seconds=round(time.monotonic() - started, 3), paths=paths)


def _made(c: Comparison, name: str) -> list[str]:
    """Files that one run made and the other found: a library that writes unseen left no record of it but their time."""
    found = [d for d in c.differences if d.section == "data" and d.reason == MADE_BY_THE_OTHER[1]]
    return [d.key for d in found if str(d.a if name == "A" else d.b).startswith("written")]


def _recorded(request: Request) -> tuple[StoredRun, StoredRun]:
    """Both runs. Raises UsageError where one of them cannot be run again."""
    found = []
    for name, path in (("A", request.a), ("B", request.b)):
        if not os.path.exists(path):
            raise UsageError(f"{path} does not exist", hint="reprodebug zoom A B takes two run directories of `reprodebug capture`")
        if not is_run(path):
            raise UsageError(
                f"{name} ({path}) is no run of `reprodebug capture`: zoom runs the recorded command again, and there is none",
                hint="record both with `reprodebug capture -o RUN -- COMMAND...`; `reprodebug compare` reads what other systems left",
            )
        run = open_run(path)
        if not run.manifest.command:
            raise UsageError(f"run {name} does not say by which command it was made", hint="record it again with `reprodebug capture`")
        hidden = [w for w in run.manifest.command if "<redacted " in w]
        if hidden:
            raise UsageError(
                f"the command of run {name} held a secret, which was masked when it was recorded: it cannot be run again",
                hint="hand secrets over in an environment variable, which is taken from here, and record it again",
            )
        found.append(run)
    return found[0], found[1]


def _folder(keep: str) -> tuple[str, int]:
    """(directory for the executions, descriptor of its lock)."""
    if keep:
        path = os.path.abspath(keep)
        if os.path.lexists(path) and (not os.path.isdir(path) or os.listdir(path)):
            raise UsageError(f"{keep} exists and is not empty", hint="choose another directory with --keep, or remove this one first")
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{keep} cannot be made: {error.strerror}", hint="choose a place you can write to") from error
        return path, -1
    try:
        os.makedirs(home(), exist_ok=True)
        _sweep()
        path = tempfile.mkdtemp(prefix=_PREFIX, dir=home())
    except OSError as error:
        raise UsageError(
            f"{home()} cannot be written: {error.strerror}", hint="set REPRODEBUG_SESSIONS to a directory you can write to"
        ) from error
    return path, hold(path)


def _sweep() -> None:
    """Remove what a zoom that was killed left, and end what it ran."""
    for name in os.listdir(home()):
        path = os.path.join(home(), name)
        if name.startswith(_PREFIX) and (lock := hold(path)) >= 0:
            process.end_marked(MARK, path)
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


class _Search:
    """One question, being answered."""

    def __init__(self, request: Request, examined: Examined, again: list[Again], folder: str, say: Callable[[str], None]) -> None:
        pair = examined.pair
        assert pair is not None and examined.comparison.first is not None
        self.request = request
        self.say = say
        self.first: Divergence = examined.comparison.first
        self.bounds = bounds(pair, examined.at)
        self.examined = examined
        self.notes: list[str] = []
        traces = pair.a, pair.b
        self.runners = []
        for n, x in enumerate(again):
            at = self.bounds[n].target
            index = int((traces[n].events["seq"] < at).sum())
            self.runners.append(Runner(x, folder, (pair.rank, pair.ordinal), index, x.run.manifest.exit_code or 0, request.timeout, say))

    def answer(self) -> Zoom:
        try:
            try:
                narrow = self._both(self.bounds, "")
            except Unfollowed:  # following could not begin just there, such as inside a dispatch mode of the program's
                a, b = (replace(x, arm=0) for x in self.bounds)
                self.bounds = a, b
                narrow = self._both(self.bounds, ", followed from its beginning on")
        except NotRepeatable as error:
            return Zoom(model.NOT_REPEATABLE, "", error.message, self.first, notes=tuple(self.notes), remedy=_REPEAT)
        except Unfollowed as error:
            return Zoom(model.NOT_FOUND, "", error.message, self.first, notes=tuple(self.notes), remedy=_AROUND)
        except Untestable as error:
            return Zoom(model.NOT_REPEATABLE, "", error.message, self.first, notes=tuple(self.notes), remedy=_RUNS)
        same = narrow[0].same, narrow[1].same
        if any(r.log.full for r in narrow):
            return self._nothing(
                f"the operations of the divergent call do not fit into {_mib(self.request.max_bytes)} (--max-bytes)", narrow
            )
        if narrow[0].log.target is None or narrow[1].log.target is None:
            return self._nothing("the divergent tensor could not be looked at", narrow)
        if _equal_targets(narrow):
            reason = "run again, A and B agree where their recordings part"
            names = [n for n, s in zip("AB", same, strict=True) if s is False]
            if names:
                reason += f", {plural(_ATTEMPTS, 'time')}: {' and '.join(names)} did not get the recorded value again"
            return Zoom(model.NOT_REPRODUCED, "", reason, self.first, operations=_counts(narrow), repeats=same, notes=tuple(self.notes),
                        remedy=_REPEAT)  # fmt: skip
        for name, value in zip("AB", same, strict=True):
            if value is False:
                self.notes.append(
                    f"{name} did not get its recorded value again at the divergence itself: up to there it was the same run, and what is"
                    " told here is how the two executions made now part"
                )
        origin = origins.find(narrow[0].log, narrow[1].log, whole=self.bounds[0].whole and self.bounds[1].whole)
        used, within = narrow, self.bounds
        if origin.earlier:
            used, within, origin = self._wider(narrow, origin)
        if not origin.kind:
            return self._nothing("no operation was found that makes the difference", used)
        return self._zoom(used, within, origin, same)

    def _both(self, stretch: tuple[Bounds, Bounds], what: str) -> tuple[Repeat, Repeat]:
        """Both again; once more where a side does not repeat its recording and they agreed by chance."""
        for n in range(_ATTEMPTS):
            why = " once more: A and B agreed by chance" if n else what
            a, b = (r.run(s, self.request.max_bytes, what=why) for r, s in zip(self.runners, stretch, strict=True))
            if not _equal_targets((a, b)) or (a.same is not False and b.same is not False):
                break
        return a, b

    def _wider(
        self, narrow: tuple[Repeat, Repeat], origin: origins.Origin
    ) -> tuple[tuple[Repeat, Repeat], tuple[Bounds, Bounds], origins.Origin]:
        """The difference was made before the stretch: look from the program's beginning on."""
        whole = widest(self.bounds[0]), widest(self.bounds[1])
        try:
            wide = self._both(whole, ", from its beginning on: what differs was made before the divergent call")
        except (NotRepeatable, Untestable) as error:
            self.notes.append(f"what came before the divergent call could not be looked at: {error.message}")
            return narrow, self.bounds, origin
        if any(r.log.full for r in wide):
            self.notes.append(
                f"what came before the divergent call is not known: its operations do not fit into {_mib(self.request.max_bytes)} (--max-bytes)"
            )
            return narrow, self.bounds, origin
        if _equal_targets(wide) or wide[0].log.target is None or wide[1].log.target is None:
            self.notes.append("looked at from the beginning on, the two runs agreed: what came before the divergent call is not known")
            return narrow, self.bounds, origin
        found = origins.find(wide[0].log, wide[1].log, whole=True)
        if origin.kind == model.RANDOM and found.kind == model.RANDOM:
            origin.notes = found.notes
            origin.earlier = False
            return narrow, self.bounds, origin
        return (wide, whole, found) if found.kind else (narrow, self.bounds, origin)

    def _nothing(self, reason: str, runs: tuple[Repeat, Repeat]) -> Zoom:
        return Zoom(model.NOT_FOUND, "", reason, self.first, operations=_counts(runs), repeats=(runs[0].same, runs[1].same),
                    notes=tuple(self.notes), remedy=_AROUND)  # fmt: skip

    def _zoom(
        self, runs: tuple[Repeat, Repeat], within: tuple[Bounds, Bounds], origin: origins.Origin, same: tuple[bool | None, bool | None]
    ) -> Zoom:
        logs, origin = self._sent(runs, origin)
        left, right = origins.Side(logs[0]), origins.Side(logs[1])
        roots = [r.again.path for r in self.runners]
        own = logs[0] is runs[0].log
        looked = look.again(self.runners, runs, within, origin, self.request.max_bytes, self.notes) if own and look.needed(origin) else runs
        size = self._size(runs, within, origin, logs)
        kernels = look.kernels(looked, origin)
        inside = look.region(looked, origin, (left, right), roots)
        if inside is not None and not inside.same_graph:
            origin.kind = model.SEQUENCE
        alike = origin.a is not None and origin.b is not None and origin.a.name == origin.b.name
        x = origins.described(left, origin.a, right, origin.b if alike else None, roots[0])
        y = origins.described(right, origin.b, left, origin.a if alike else None, roots[1])
        notes = [*origin.notes, *(self._beside(followed=not own) if origin.kind == model.OUTSIDE else [])]
        tried = None
        if self.request.counterfactual:
            assert self.examined.pair is not None
            tried = counterfactual.decide(self.runners, self.examined.pair, runs, within, origin, self.first.kind)
        reason = sentence(origin, x, y) + (f"; {inside.reason}" if inside is not None else "")
        return Zoom(
            model.FOUND, origin.kind, reason, self.first, x, y, size, _counts(runs), same, (*notes, *self.notes),
            counterfactual=tried, region=inside, kernels=kernels,
        )  # fmt: skip

    def _sent(self, runs: tuple[Repeat, Repeat], origin: origins.Origin) -> tuple[tuple[Log, Log], origins.Origin]:
        """Where another process made the first value that differs, such as a DataLoader's worker, and sent it as a tensor or an array: the
        operations of that one. (the logs in which the answer lies, the answer)."""
        main = runs[0].log, runs[1].log
        if origin.kind != model.OUTSIDE or origin.a is None or origin.b is None or origin.value is None:
            return main, origin
        made = [origins.made_in(workers(r.path, r.log), v) for r, v in zip(runs, origin.value, strict=True)]
        if made[0] is None or made[1] is None:
            return main, origin
        found = origins.find(made[0], made[1], whole=True)
        if not found.kind:
            return main, origin
        where = "in worker processes of a DataLoader" if "DataLoader" in origin.a.via else "in another process"
        found.notes.append(f"{where}, which sent it to {visible(origin.a.place, 120)}")
        return (made[0], made[1]), found

    def _beside(self, *, followed: bool) -> list[str]:
        """What works beside the main thread, where operations are not seen. ``followed``: the answer lies in a worker process."""
        found = []
        pair = self.examined.pair
        assert pair is not None
        for name, trace in (("A", pair.a), ("B", pair.b)):
            threads = [str(n.get("runs")) for n in trace.notes_meta if n.get("type") == "thread"]
            threads = [t for t in threads if not LIBRARY_THREAD.match(t)]
            workers = max((int(n.get("num_workers") or 0) for n in trace.notes_meta if n.get("type") == "loader"), default=0)
            if threads:
                found.append(
                    f"{name} runs {plural(len(threads), 'thread')} of its own ({visible(threads[0], 80)}), whose operations are not seen"
                )
            if workers and not followed:
                found.append(f"{name} has a DataLoader with {plural(workers, 'worker process')}: what they did was not found")
        return found

    def _size(
        self, runs: tuple[Repeat, Repeat], within: tuple[Bounds, Bounds], origin: origins.Origin, logs: tuple[Log, Log]
    ) -> Size | None:
        targets = logs[0].target, logs[1].target
        assert targets[0] is not None and targets[1] is not None
        p, q = origin.value or (targets[0], targets[1])
        raw = logs[0].raw(p), logs[1].raw(q)
        if (raw[0] is None and runs[0].log.dropped) or (raw[1] is None and runs[1].log.dropped):
            kept = runs
            try:
                kept = self._again_for(runs, within, origin)
            except (NotRepeatable, Untestable) as error:
                self.notes.append(f"the operation's tensors could not be kept: {error.message}")
            raw = kept[0].log.raw(p), kept[1].log.raw(q)
            if raw[0] is None or raw[1] is None:
                self.notes.append(f"the tensors did not fit into {_mib(self.request.max_bytes)} (--max-bytes): their numbers are not known")
        if raw[0] is None or raw[1] is None or (p.dtype, p.shape) != (q.dtype, q.shape):
            return None
        made = (
            origin.a is not None
            and origin.a.region is None
            and origin.kind in (model.OPERATION, model.SEQUENCE)
            and any(v is p for v in origin.a.outputs)
        )
        return size_of(p, raw, origin.a if made else None)

    def _again_for(self, runs: tuple[Repeat, Repeat], within: tuple[Bounds, Bounds], origin: origins.Origin) -> tuple[Repeat, Repeat]:
        """There was no room for the tensors of every operation: keep those of this one alone."""
        kept = []
        for runner, stretch, op in zip(self.runners, within, (origin.a, origin.b), strict=True):
            what = ", for the tensors of one operation: those of all of them did not fit"
            kept.append(runner.run(stretch, self.request.max_bytes, keep=[] if op is None else [op.n], what=what))
        return kept[0], kept[1]


def _equal_targets(runs: tuple[Repeat, Repeat]) -> bool:
    a, b = runs[0].log.target, runs[1].log.target
    return a is not None and b is not None and bool(a.digest) and a.digest == b.digest


def _counts(runs: tuple[Repeat, Repeat]) -> tuple[int, int]:
    return len(runs[0].log.ops), len(runs[1].log.ops)


def _mib(nbytes: int) -> str:
    return f"{nbytes / (1 << 20):,.3g} MiB" if nbytes < 1 << 20 else f"{nbytes / (1 << 20):,.0f} MiB"


def sentence(origin: origins.Origin, x: model.Operation | None, y: model.Operation | None) -> str:
    """The answer in one sentence."""
    shown = x or y
    name = shown.name if shown is not None else ""
    where = f" at {_line(shown)}" if shown is not None and _line(shown) else ""
    if origin.kind == model.OPERATION and origin.a is not None and origin.a.region is not None:
        return f"{name}{where} turns equal inputs into different results"
    if origin.kind == model.OPERATION:
        return f"{name}{where} turns equal inputs and arguments into different results: the difference arises in the operation itself"
    if origin.kind == model.ARGUMENT:
        return f"{name}{where} is called with another argument: {visible(origin.what, 200)}"
    if origin.kind == model.RANDOM:
        return f"{name}{where} draws from a generator in another state, its arguments are equal"
    if origin.kind == model.SEQUENCE:
        compiled = [op is not None and op.region is not None for op in (origin.a, origin.b)]
        if all(compiled):
            return f"A and B run different compiled graphs{where}"
        if any(compiled) and x is not None and y is not None:
            n = compiled.index(True)
            return f"{'AB'[n]} runs {(x, y)[n].name} at {_line((x, y)[n])}, {'BA'[n]} runs operations one by one at {_line((y, x)[n])}"
        if x is not None and y is not None and x.name == y.name:
            return f"{name}{where} is put together otherwise: of the values that both runs have, others go into it in A than in B"
        sides = [
            f"{n} runs {o.name} at {_line(o) or 'no line of Python'}" if o else f"{n} has no such operation"
            for n, o in (("A", x), ("B", y))
        ]
        return f"the two runs call other operations: {sides[0]}, {sides[1]}"
    if origin.kind == model.UNINITIALISED:
        return f"{name}{where} gives memory that nothing was written to, and its content differs"
    if origin.kind == model.INPUT:
        receives = f"{name}{where} receives another input: {origin.what}; "
        if not name or origin.what == origins.ITSELF:
            receives = f"the divergent tensor{f', last written by {name}{where},' if name else ''} is another one; "
        return receives + "no operation that was looked at turned equal inputs into different results"
    receives = f"it is first seen as what {name}{where} receives ({origin.what})"
    if not name:
        receives = "no operation of the main thread made it" + (
            " between the last equal record and the divergence" if origin.earlier else ""
        )
    return f"the difference enters from outside of torch operations: {receives}"


def _line(op: model.Operation) -> str:
    """Where to look: in backward the line of the forward pass, but for code of the program's that runs in it (a hook, the backward
    of a Function, a recomputation)."""
    by_engine = any(f.rpartition(".")[2] in ("backward", "grad") for f in op.via.split(" > "))
    return op.forward_line if by_engine and op.forward_line else op.line


_REPEAT = "find what makes the command vary: `reprodebug check --minimize -- COMMAND`, or `reprodebug bisect A B`"
_AROUND = "`reprodebug bisect A B` searches what differs around the runs instead"
_RUNS = "check that the recorded command still runs: `reprodebug show RUN` prints it"
