"""What the guest records, of real programs: one test for each duty and each blind spot."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from reprodebug.compare.coverage import coverage
from reprodebug.model.events import Flag
from reprodebug.recorder.randomness import Randomness
from reprodebug.recorder.writer import Writer
from tests.recorder.recorded import capture, notes, rows

TRAIN = """
    import torch, random
    import numpy as np
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset
    torch.manual_seed(0); np.random.seed(0); random.seed(0)
    own = np.random.default_rng(7)
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Dropout(0.5))
            self.norm = nn.BatchNorm1d(8)
            self.head = nn.Linear(8, 3)
        def forward(self, x, scale=None):
            h = self.norm(self.body(x))
            return {"logits": self.head(h if scale is None else h * scale), "hidden": (h, [h])}
    data = TensorDataset(torch.arange(72.0).view(12, 6), torch.arange(12) % 3)
    loader = DataLoader(data, batch_size=4, shuffle=True)
    net = Net()
    opt = torch.optim.Adam(net.parameters(), lr=0.1)
    sched = torch.optim.lr_scheduler.StepLR(opt, 2, 0.5)
    for x, y in loader:
        x = x + float(own.normal())
        out = net(x, scale=torch.tensor(2.0))
        loss = nn.functional.cross_entropy(out["logits"], y)
        opt.zero_grad(); loss.backward(); opt.step(); sched.step()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    return capture(tmp_path_factory.mktemp("trained"), TRAIN)


def test_order_and_names(trained) -> None:
    first = [(r.phase, r.kind, r.module, r.tensor) for r in rows(trained, step=0)]
    assert first[:2] == [("init", "parameter", "body.0", "weight"), ("init", "parameter", "body.0", "bias")]
    assert [f for f in first if f[1] == "data"] == [
        ("data", "data", "", "batch.0"), ("data", "data", "", "batch.1"), ("forward", "data", "", "input.0"),
        ("forward", "data", "", "input.scale"),
    ]  # fmt: skip
    order = [f[0] for f in first]
    assert [p for n, p in enumerate(order) if n == 0 or order[n - 1] != p] == ["init", "data", "forward", "backward", "optimizer"]
    outputs = [r.tensor for r in rows(trained, step=0, phase="forward", module="", kind="activation") if r.tensor.startswith("output")]
    assert outputs == ["output.hidden.0", "output.hidden.1.0", "output.logits"], "in the order of their names"


def test_gradients_arrive_in_the_order_of_backward(trained) -> None:
    found = [(r.module, r.tensor) for r in rows(trained, step=1, kind="gradient")]
    assert found.index(("head", "output.0.grad")) < found.index(("head", "weight.grad")) < found.index(("body.0", "weight.grad"))
    assert ("body.1", "output.0.grad") in found, "the in-place ReLU has a gradient of its own"
    assert len(found) == len(set(found))


def test_parameters_buffers_and_optimizer_state_after_each_step(trained) -> None:
    for step in range(3):
        names = {(r.module, r.tensor) for r in rows(trained, step=step, phase="optimizer", kind="parameter")}
        assert {("head", "weight"), ("norm", "running_mean"), ("norm", "num_batches_tracked")} <= names
        states = {(r.module, r.tensor) for r in rows(trained, step=step, kind="optimizer")}
        assert states == {(m, f"{t}.state") for m, t in names if not t.startswith(("running", "num_"))}
    lrs = [n["groups"][0]["lr"] for n in notes(trained, "optimizer")]
    assert lrs == [0.1, 0.05]


def test_loss_value_is_kept(trained) -> None:
    trace = trained.trace(0)
    losses = rows(trained, kind="loss")
    assert len(losses) == 3
    assert np.isfinite(trace.stats["value"]).sum() == 3


def test_data_loader_indices_and_samples(trained) -> None:
    trace = trained.trace(0)
    batches = [e for e in trace.events if trace.sites[e["site"]][3] == "batch.0"]
    seen: list[int] = []
    prints: set[int] = set()
    for e in batches:
        fingerprints, indices = trace.samples(int(e["seq"]))
        assert len(fingerprints) == len(indices) == 4
        seen += indices.tolist()
        prints |= set(fingerprints.tolist())
    assert sorted(seen) == list(range(12))
    assert len(prints) == 12
    loader = notes(trained, "loader")[0]
    assert (loader["dataset"], loader["size"], loader["sampler"], loader["generator"]) == ("TensorDataset", 12, "RandomSampler", "global")


def test_random_states_have_positions(trained) -> None:
    trace = trained.trace(0)
    names = [name for name, _ in trace.generators]
    assert {"torch.cpu", "python.random", "numpy.random", "numpy.default_rng#0"} <= set(names)
    cpu = trace.rng[trace.rng["generator"] == names.index("torch.cpu")]
    assert len(cpu) >= 3, "shuffling and dropout move it"
    assert (cpu["position"] >= 0).all()
    row = cpu[0]
    assert len(trace.state(names.index("torch.cpu"), int(row["lo"]), int(row["hi"]))) == 24 + 624 * 4 + 40
    own = trace.rng[trace.rng["generator"] == names.index("numpy.default_rng#0")]
    assert len(own) >= 3


def test_a_numpy_generator_is_followed_while_the_program_holds_it(tmp_path) -> None:
    """However Python counts references: from 3.14 on it leaves out that of an argument."""
    watch = Randomness(torch, Writer(str(tmp_path)), lambda body: hashlib.blake2b(body, digest_size=16).digest())
    held = np.random.default_rng(1)
    for generator in (held, np.random.default_rng(2)):
        watch.numpy_generator(generator)
    del generator
    watch.observe()
    assert [entry[1] is held for entry in watch._numpy_made] == [True]


def test_environment_and_settings(trained) -> None:
    environment = trained.manifest.environment
    assert {"torch", "numpy"} <= set(environment["packages"])
    assert trained.manifest.processes[0].environment["settings"]["intra_op_threads"] == 1
    assert [name for name in trained.manifest.code["files"] if name.endswith("train.py")]


def test_coverage_is_whole(trained) -> None:
    trace = trained.trace(0)
    found = coverage([trace], [trace])
    assert found.share == 1.0
    assert found.unobserved == ()


def test_data_files_are_fingerprinted(tmp_path: Path) -> None:
    (tmp_path / "input.npy").write_bytes(b"")
    run = capture(
        tmp_path,
        """
        import torch, numpy as np
        np.save("input.npy", np.ones(4, np.float32))
        x = torch.from_numpy(np.load("input.npy"))
        torch.nn.Linear(4, 2)(x)
        """,
        options=("--data", "input.npy"),
    )
    row = next(v for k, v in run.manifest.data.items() if k.endswith("input.npy"))
    assert row["size"] == 144 or row["mode"] == "named"


def test_direct_forward_lowers_coverage_and_is_named(tmp_path: Path) -> None:
    run = capture(
        tmp_path,
        """
        import torch
        from torch import nn
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)
            def forward(self, x):
                return self.b(self.a.forward(x))
        net = Net(); opt = torch.optim.SGD(net.parameters(), 0.1)
        for _ in range(3):
            loss = net(torch.ones(2, 4)).sum(); opt.zero_grad(); loss.backward(); opt.step()
        """,
    )
    found = coverage([run.trace(0)], [run.trace(0)])
    assert 0.5 < found.share < 1.0
    assert [(u.what, "forward() was called directly" in u.why) for u in found.unobserved] == [("a (Linear)", True)]


def test_compiled_region_is_named_and_harmless(tmp_path: Path) -> None:
    script = """
        import warnings
        import torch
        from torch import nn
        warnings.filterwarnings("error", message="Using .torch.compile")  # said where a module has global hooks
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        opt = torch.optim.SGD(net.parameters(), 0.1)
        graphs = []
        def backend(gm, example):
            graphs.append(sum(1 for n in gm.graph.nodes if n.op.startswith("call")))
            return gm.forward
        fast = torch.compile(net, backend=backend)
        for _ in range(3):
            loss = fast(torch.ones(2, 4)).sum(); opt.zero_grad(); loss.backward(); opt.step()
        print("graphs", graphs)
    """
    run = capture(tmp_path, script)
    found = coverage([run.trace(0)], [run.trace(0)])
    assert found.share < 1.0
    assert {u.what for u in found.unobserved if "compiled" in u.why} == {"0 (Linear)", "2 (Linear)"}
    assert rows(run, module="", type="OptimizedModule", tensor="output.0")


def test_checkpoint_recomputation_is_marked(tmp_path: Path) -> None:
    run = capture(
        tmp_path,
        """
        import torch
        from torch import nn
        from torch.utils.checkpoint import checkpoint
        lin = nn.Linear(4, 4)
        class Net(nn.Module):
            def __init__(self):
                super().__init__(); self.lin = lin
            def forward(self, x):
                return checkpoint(self.lin, x, use_reentrant=False)
        net = Net(); opt = torch.optim.SGD(net.parameters(), 0.1)
        loss = net(torch.ones(2, 4)).sum(); loss.backward(); opt.step()
        """,
    )
    inputs = rows(run, module="lin", tensor="input.0")  # torch stops the second pass as soon as it has what it needs
    assert [bool(r.flags & Flag.RECOMPUTE) for r in inputs] == [False, True]
    assert inputs[0].digest == inputs[1].digest


def test_without_an_optimizer_steps_are_calls_of_the_outermost_module(tmp_path: Path) -> None:
    from reprodebug.compare.align import steps

    run = capture(
        tmp_path,
        """
        import torch
        net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh()).eval()
        criterion = torch.nn.MSELoss()
        with torch.no_grad():
            for n in range(3):
                criterion(net(torch.full((2, 4), float(n))), torch.zeros(2, 4))
        """,
    )
    trace = run.trace(0)
    found = steps(trace)
    at = [int(found[n]) for n, e in enumerate(trace.events) if trace.sites[e["site"]][1:] == ("0", "Linear", "output.0")]
    assert at == [0, 1, 2]


def test_tied_weights_subclasses_and_exceptions(tmp_path: Path) -> None:
    run = capture(
        tmp_path,
        """
        import torch
        from torch import nn
        class Stop(Exception): pass
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.enc, self.dec = nn.Linear(4, 4), nn.Linear(4, 4)
                self.dec.weight = self.enc.weight
                self.fail = False
            def forward(self, x):
                h = self.enc(x)
                if self.fail:
                    raise Stop
                return self.dec(h)
        net = Net(); opt = torch.optim.SGD(net.parameters(), 0.1)
        for n in range(3):
            net.fail = True
            try: net(torch.ones(2, 4))
            except Stop: pass
            net.fail = False
            loss = net(torch.ones(2, 4)).sum(); opt.zero_grad(); loss.backward(); opt.step()
        """,
    )
    assert len(rows(run, step=1, tensor="weight.grad")) == 1
    assert [r.call for r in rows(run, step=1, module="enc", tensor="output.0")] == [0, 1]
    assert len(rows(run, step=1, module="", tensor="input.0")) == 2


def test_each_rank_of_torchrun_has_its_own_trace(tmp_path: Path) -> None:
    (tmp_path / "ddp.py").write_text(
        "import torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "rank = dist.get_rank(); torch.manual_seed(0)\n"
        "net = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(4, 2)))\n"
        "opt = torch.optim.SGD(net.parameters(), 0.1)\n"
        "for n in range(3):\n"
        "    loss = net(torch.full((2, 4), float(rank + n))).sum(); opt.zero_grad(); loss.backward(); opt.step()\n"
        "dist.destroy_process_group()\n"
    )
    run = capture(
        tmp_path,
        """
        import subprocess, sys
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29611"]
        sys.exit(subprocess.call([*launcher, "ddp.py"]))
        """,
    )
    assert sorted(run.traces) == [(0, 0), (1, 0)]
    inputs = [rows(run, rank, module="", tensor="input.0", step=0)[0].digest for rank in (0, 1)]
    assert inputs[0] != inputs[1]
    assert {r.module for r in rows(run, 1, kind="parameter")} == {"0"}, "the wrapper's name is left out"
    assert all(p.steps == 3 and p.complete for p in run.manifest.processes)


def test_two_programs_of_one_shell_script_are_two_processes(tmp_path: Path) -> None:
    run = capture(
        tmp_path,
        """
        import subprocess, sys
        for n in (1, 2):
            subprocess.check_call([sys.executable, "-c", f"import torch; torch.nn.Linear({n}, 1)(torch.ones({n}))"])
        """,
    )
    assert sorted(run.traces) == [(0, 0), (0, 1)]
    assert [rows(run, 0, n, tensor="weight")[0].shape for n in (0, 1)] == [(1, 1), (1, 2)]


def test_a_learning_rate_in_a_tensor_is_followed(tmp_path: Path) -> None:
    run = capture(
        tmp_path,
        """
        import torch
        net, lr = torch.nn.Linear(3, 2), torch.tensor(0.5)
        opt = torch.optim.SGD(net.parameters(), lr=lr, foreach=False)
        for step in range(3):
            opt.zero_grad(); net(torch.ones(2, 3)).sum().backward(); opt.step()
            if step == 0:
                lr.mul_(0.5)
        """,
    )
    assert [(n["step"], n["groups"][0]["lr"]) for n in notes(run, "optimizer")] == [(0, 0.5), (1, 0.25)]


def test_the_first_call_with_keywords_is_recorded_in_the_order_of_the_later_ones(tmp_path: Path) -> None:
    script = """
        import torch
        class Inner(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = torch.nn.Linear(2, 2)
            def forward(self, x, *, mask=None):
                return self.fc(x) * mask
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = Inner()
            def forward(self, x):
                return self.inner(x, mask=torch.ones(2))
        net = Net()
        for _ in range(2):
            net(torch.ones(1, 2))
    """
    found = [(r.module, r.tensor) for r in rows(capture(tmp_path, script), phase="forward")]
    assert found[: len(found) // 2] == found[len(found) // 2 :]
    assert found.index(("inner", "input.mask")) < found.index(("inner.fc", "input.0"))
