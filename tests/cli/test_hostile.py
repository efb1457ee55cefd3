"""Names, paths and values that try to steer the terminal are printed, never obeyed."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.cli.program import PYTHON, environment, here, reprodebug

SCRIPT = "[bold]train[red] \x1b[31m\u202egpj.py"
NAMES = (
    "esc\x1b[2J\x1b]0;title\x07", "[/bold][link=http://evil]x[/link]", "new\nline\r\nreprodebug: forged", "bidi\u202e\u2066right",
    "zero\u200bwidth",
    "long" * 2500, "nul\x00", "back\x08\x7f", "c1\x9b31m", "| `tick` | <script>alert(1)</script> ![x](http://evil)",
    "tag\U000e0041", "日本語 ü",
)  # fmt: skip
TRAIN = f"""
import os, sys, torch
torch.manual_seed(int(os.environ["SEED"]))
class Evil(torch.nn.Linear):
    pass
Evil.__name__ = Evil.__qualname__ = "Evil\\x1b[31m[/bold]\\u202e"
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name in {NAMES!r}:
            self.add_module(name, Evil(3, 3))
    def forward(self, x):
        for m in self.children():
            x = m(x)
        return x
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(2):
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
"""
VALUE = "\x1b]8;;http://evil\x07[/bold]\u202e\r\n\x9b2J"


@dataclass(slots=True)
class Recorded:
    folder: Path
    said: list[bytes]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Two runs that differ from the first parameter on; ``b`` has its own name and a longer script."""
    folder = tmp_path_factory.mktemp("hostile")
    said = []
    for n, out in enumerate(("a[bold]\x1b[31m", "b\u202e\n`x`")):
        (folder / SCRIPT).write_text(TRAIN + f"# {n} \x1b[31m\n")
        env = environment(SEED=str(n), **{"TORCH_EVIL": VALUE + str(n), "CUDA_EVIL[/x]": VALUE + str(n)})
        words = ["--lr", f"{n}{VALUE}"]
        done = reprodebug("capture", "-o", out, "--", PYTHON, SCRIPT, *words, cwd=folder, env=env)
        assert done.returncode == 0 and done.stdout == b"", done.stderr
        said.append(done.stderr)
    return Recorded(folder, said)


def assert_harmless(output: bytes, *, ascii_escapes: bool = False) -> str:
    text = output.decode("utf-8")
    bad = {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn")}
    assert not bad, {hex(ord(c)) for c in bad}
    assert not any(line.startswith("reprodebug: forged") for line in text.splitlines())
    assert max(map(len, text.splitlines()), default=0) < (1 << 20 if ascii_escapes else 4000)
    return text


def test_what_capture_says(recorded: Recorded) -> None:
    for said in recorded.said:
        text = assert_harmless(said)
        assert "recorded" in text and "Traceback" not in text


@pytest.mark.parametrize("run", [0, 1])
def test_show(recorded: Recorded, run: int) -> None:
    path = sorted(p for p in recorded.folder.iterdir() if p.is_dir())[run]
    done = reprodebug("show", path)
    assert done.returncode == 0 and done.stderr == b""
    assert "\\x1b" in assert_harmless(done.stdout)


@pytest.mark.parametrize(
    "options",
    [[], ["--verbose"], ["--color", "never"], ["--markdown", "-"], ["--json", "-"], ["--only", "steps,draws,batches,records", "--verbose"]],
)
@pytest.mark.parametrize("order", [1, -1])
def test_compare(recorded: Recorded, options: list[str], order: int, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = sorted(p for p in recorded.folder.iterdir() if p.is_dir())[::order]
    done = here(capsys, "compare", str(a), str(b), *options)
    assert done.returncode == 1 and done.stderr == b"", done.stderr
    text = assert_harmless(done.stdout, ascii_escapes="--json" in options)
    assert "\\x1b" in text or "\\u001b" in text
    if "--markdown" in options:
        html = MarkdownIt("commonmark").enable("table").render(text)
        assert "<table>" in html and "&lt;script&gt;" in html
        assert "<script" not in html and "<img" not in html and 'href="http://evil' not in html


def test_refusals(recorded: Recorded) -> None:
    for words in (["compare", f"none{VALUE}", "x"], ["show", VALUE], ["compare", *recorded.folder.iterdir(), "--json", f"/none/{VALUE}"],
                  ["capture", "--level", VALUE, "--", "x"], ["capture", "--", f"none{VALUE}"], ["capture", VALUE], [VALUE],
                  ["compare", "a", "b", f"--{VALUE}"]):  # fmt: skip
        done = reprodebug(*words, cwd=recorded.folder)
        assert done.returncode in (2, 125) and done.stdout == b""
        assert_harmless(done.stderr)
        assert len(done.stderr.splitlines()) == 2


def test_colour_is_the_only_control(recorded: Recorded) -> None:
    import re

    a, b = sorted(p for p in recorded.folder.iterdir() if p.is_dir())
    done = reprodebug("compare", a, b, "--color", "always")
    assert_harmless(re.sub(rb"\x1b\[[0-9;]*m", b"", done.stdout))


def test_every_string_of_a_comparison_is_made_visible() -> None:
    """Dtypes, levels and names of any kind: a recorded file holds whatever its author wrote into it."""
    from reprodebug.cli import details
    from reprodebug.report import text
    from tests.tui.comparisons import HOSTILE, hostile, hostile_records

    records, evidence = hostile_records()
    for c in (hostile(), records):
        assert "\\x1b]0;pwned" in assert_harmless(text.render(c, verbose=True).replace(HOSTILE[6], "x").encode())
        assert_harmless("".join(text.render(c, only=(part,)) for part in text.PARTS).replace(HOSTILE[6], "x").encode())
    for part in details.PARTS:
        assert_harmless(details.render(records, evidence, part, verbose=True).replace(HOSTILE[6], "x").encode())
