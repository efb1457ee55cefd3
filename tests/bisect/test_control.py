"""What a screen needs of a search: typed events in their order, pause, resume and cancel from another thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from reprodebug.bisect import session
from reprodebug.bisect.control import Cancelled, Control
from reprodebug.bisect.drive import Question, bisect
from reprodebug.model import progress as p
from reprodebug.model.experiment import Bisection
from tests.bisect.test_process import carrying
from tests.bisect.test_whole import MODEL, TRAIN, git, surroundings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three commits; the second one changes the activation."""
    monkeypatch.setenv("REPRODEBUG_SESSIONS", str(tmp_path / "sessions"))
    repo = tmp_path / "project"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    (repo / "train.py").write_text(TRAIN.format(lr=0.1))
    for act in ("Tanh", "ReLU", "ReLU6"):
        (repo / "model.py").write_text(MODEL.format(act=act))
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "-m", act)
    return repo


class Search(threading.Thread):
    """A search in a thread of its own, as a screen runs it."""

    def __init__(self, repo: Path, *, resume: bool = False, on: Callable[[p.Event, Control], None] = lambda event, control: None) -> None:
        super().__init__(daemon=True)
        self.question = Question(good=("main~2",), bad=("main",), command=("python", "train.py"))
        self.repo, self.resume, self.on, self.control = repo, resume, on, Control()
        self.events: list[p.Event] = []
        self.result: Bisection | BaseException | None = None

    def run(self) -> None:
        try:
            environment = surroundings(self.repo.parent / "sessions")
            self.result = bisect(
                self.question, cwd=str(self.repo), environment=environment, resume=self.resume, listen=self.listen, control=self.control
            )
        except BaseException as error:
            self.result = error

    def listen(self, event: p.Event) -> None:
        self.events.append(event)
        self.on(event, self.control)

    def wait(self) -> Search:
        self.start()
        self.join(240)
        assert not self.is_alive()
        return self


def test_a_cancelled_search_tells_its_way_and_goes_on(project: Path) -> None:
    def cancel(event: p.Event, control: Control) -> None:
        if isinstance(event, p.TrialStarted) and event.count == 3:
            threading.Timer(0.3, control.cancel).start()

    first = Search(project, on=cancel).wait()
    assert isinstance(first.result, Cancelled)
    assert isinstance(first.events[0], p.Began) and not any(isinstance(e, p.Finished) for e in first.events)
    assert not carrying(first.events[0].session)
    assert not any(os.path.exists(os.path.join(first.events[0].session, name)) for name in ("work", "repository"))
    assert [k.state for k in session.known()] == ["stopped"]

    paused = threading.Event()

    def pause(event: p.Event, control: Control) -> None:
        if isinstance(event, p.TrialEnded) and not event.recalled and not paused.is_set():
            control.pause()
        if isinstance(event, p.Paused):
            paused.set()
            threading.Timer(0.3, control.resume).start()

    second = Search(project, resume=True, on=pause).wait()
    assert isinstance(second.result, Bisection), second.result
    assert second.result.culprit.subject == "ReLU"
    assert paused.is_set()
    events = second.events
    kinds = [type(e) for e in events]
    assert events[0] == p.Began(first.events[0].session, first.events[0].what, resumed=True)
    assert events[-1] == p.Finished(second.result)
    assert [e.name for e in events if isinstance(e, p.Phase)] == ["verifying", "searching", "confirming"]
    # what ended before the cancel is told again, and not made again
    ended = [e for e in events if isinstance(e, p.TrialEnded)]
    assert [e.recalled for e in ended[:2]] == [True, True] and not any(e.recalled for e in ended[2:])
    assert [e.trial for e in ended] == list(second.result.trials)
    started = [e for e in events if isinstance(e, p.TrialStarted)]
    assert [e.number for e in started] == [e.trial.number for e in ended if not e.recalled]
    assert all(e.log == t.log and os.path.isfile(e.log) for e, t in zip(started, ended[2:], strict=True))
    assert kinds.index(p.Resumed) == kinds.index(p.Paused) + 1
    # what is left shrinks to the culprit, and is estimated
    left = [e for e in events if isinstance(e, p.Left)]
    assert [len(e.candidates) for e in left] == [2, 1] and {e.total for e in left} == {2}
    assert left[-1].candidates == (second.result.culprit.commit,)
    assert any(e.steps_left is not None and e.eta_s for e in started)


def test_a_cancel_before_the_start_makes_no_trial(project: Path) -> None:
    search = Search(project)
    search.control.cancel()
    search.wait()
    assert isinstance(search.result, Cancelled)
    assert not any(isinstance(e, p.TrialStarted) for e in search.events)
