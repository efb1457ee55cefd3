"""Comparing what other systems recorded: 10,000 parameters and 1,000,000 metric values a side, for each tracker's own format.

The yardstick is measured in the same process: reading the same bytes and parsing the same parameters and values from one JSON text a
side. Best of the rounds.

    python -m tests.benchmarks.foreign [--points N] [--params N] [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from reprodebug import api

SERIES = 10
Values = dict[str, list[float]]


def values_of(points: int, side: int) -> Values:
    """Metric -> its values; the sides part in the last tenth of one of them."""
    g = np.random.default_rng(0)
    steps = points // SERIES
    found = {f"metric/{n}": g.random(steps).tolist() for n in range(SERIES)}
    if side:
        last = found[f"metric/{SERIES - 1}"]
        last[-(steps // 10) :] = [v + 0.5 for v in last[-(steps // 10) :]]
    return found


def parameters(count: int, side: int) -> dict[str, float | str]:
    return {f"group{n % 97}.p{n}": n / 7 if n % 3 else f"text {n}" for n in range(count - 1)} | {"lr": 0.1 + side / 10}


def mlflow_database(folder: str, params: dict[str, float | str], values: Values) -> None:
    db = sqlite3.connect(os.path.join(folder, "mlflow.db"))
    db.executescript(
        "create table experiments (experiment_id, name); create table runs (run_uuid, status, start_time, lifecycle_stage);"
        "create table params (key varchar(250), value varchar(8000), run_uuid varchar(32), primary key (key, run_uuid));"
        "create table metrics (key varchar(250) not null, value float not null, timestamp bigint not null, run_uuid varchar(32) not null,"
        " step bigint not null, is_nan boolean not null, primary key (key, timestamp, step, run_uuid, value, is_nan));"
        "create table latest_metrics (key varchar(250), value float, step bigint, run_uuid varchar(32));"
        "create table tags (key, value, run_uuid); insert into runs values ('r1', 'FINISHED', 1, 'active');"
        "create index by_run on metrics (run_uuid);"
    )
    db.executemany("insert into params values (?, ?, 'r1')", [(k, str(v)) for k, v in params.items()])
    for name, row in values.items():
        db.execute("insert into latest_metrics values (?, ?, ?, 'r1')", (name, row[-1], len(row) - 1))
        db.executemany("insert into metrics values (?, ?, ?, 'r1', ?, 0)", [(name, v, 1700000000000 + n, n) for n, v in enumerate(row)])
    db.commit()
    db.close()


def mlflow_files(folder: str, params: dict[str, float | str], values: Values) -> None:
    run = os.path.join(folder, "mlruns", "0", "a" * 32)
    for kind in ("params", "metrics/metric"):
        os.makedirs(os.path.join(run, kind))
    with open(os.path.join(run, "meta.yaml"), "w") as f:
        f.write(f"run_id: {'a' * 32}\nlifecycle_stage: active\nstatus: 3\nstart_time: 1\n")
    for key, value in params.items():
        with open(os.path.join(run, "params", key), "w") as f:
            f.write(str(value))
    for name, row in values.items():
        with open(os.path.join(run, "metrics", name), "w") as f:
            f.writelines(f"{1700000000000 + n} {v!r} {n}\n" for n, v in enumerate(row))


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def part(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensorboard(folder: str, params: dict[str, float | str], values: Values) -> None:
    from reprodebug.foreign._wire import masked_crc

    heads: dict[int, bytes] = {}

    def record(payload: bytes) -> bytes:  # the checksum of the data is not looked at by any reader here: zero
        head = struct.pack("<Q", len(payload))
        crc = heads.setdefault(len(payload), struct.pack("<I", masked_crc(head)))
        return head + crc + payload + b"\0\0\0\0"

    pairs = [
        part(1, part(1, k.encode()) + part(2, b"\x11" + struct.pack("<d", v) if isinstance(v, float) else part(3, v.encode())))
        for k, v in params.items()
    ]
    content = part(3, b"".join(pairs))
    value = part(1, b"_hparams_/session_start_info") + part(9, part(1, part(1, b"hparams") + part(2, content)))
    with open(os.path.join(folder, "events.out.tfevents.1700000000.host.1.0"), "wb") as f:
        f.write(record(part(5, part(1, value))))
        names = {n: part(1, n.encode()) for n in values}
        for step, row in enumerate(zip(*values.values(), strict=True)):
            for name, v in zip(values, row, strict=True):
                one = part(5, part(1, names[name] + b"\x15" + struct.pack("<f", v)))
                f.write(record(b"\x09" + struct.pack("<d", 1.7e9 + step) + b"\x10" + varint(step) + one))


def wandb(folder: str, params: dict[str, float | str], values: Values) -> None:
    place = os.path.join(folder, "wandb", "offline-run-20250101_000000-abcdefgh")
    os.makedirs(place)

    def records() -> Iterator[bytes]:
        items = [part(1, part(1, k.encode()) + part(16, json.dumps(v).encode())) for k, v in params.items()]
        yield part(17, part(4, b"".join(items)))
        names = [part(2, n.encode()) for n in [*values, "_step", "_runtime", "_timestamp"]]
        for step, row in enumerate(zip(*values.values(), strict=True)):
            said = [*map(repr, row), str(step), repr(step / 9), repr(1.7e9 + step)]
            history = b"".join(part(1, n + part(16, v.encode())) for n, v in zip(names, said, strict=True))
            yield b"\x08" + varint(step + 2) + part(2, history + part(2, b"\x08" + varint(step) if step else b""))

    with open(os.path.join(place, "run-abcdefgh.wandb"), "wb") as f:
        f.write(b":W&B" + struct.pack("<HB", 0xBEE1, 0))
        at = 7
        for payload in records():
            first = True
            while True:
                left = 32768 - at % 32768
                if left < 7:
                    f.write(b"\0" * left)
                    at += left
                    continue
                piece, payload = payload[: left - 7], payload[left - 7 :]
                kind = (1 if not payload else 2) if first else (4 if not payload else 3)
                first = False
                f.write(struct.pack("<IHB", zlib.crc32(piece, zlib.crc32(bytes([kind]))), len(piece), kind) + piece)
                at += 7 + len(piece)
                if not payload:
                    break


FORMATS: dict[str, Callable[[str, dict[str, float | str], Values], None]] = {
    "MLflow, SQLite": mlflow_database, "MLflow, files": mlflow_files, "TensorBoard": tensorboard, "W&B": wandb,
}  # fmt: skip


def read_bytes(folder: str) -> int:
    """Every byte below a folder, read once."""
    size = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(at, name), "rb") as f:
                size += len(f.read())
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--params", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(f"{given.params:,} parameters and {given.points:,} metric values a side; best of {given.rounds}")
    print(f"{'format':<16}{'compare, s':>12}{'yardstick, s':>14}{'ratio':>8}{'MiB a side':>12}")
    with tempfile.TemporaryDirectory() as folder:
        texts = []
        for side in (0, 1):
            said = {"params": parameters(given.params, side), "metrics": values_of(given.points, side)}
            texts.append(json.dumps(said))
            for name, write in FORMATS.items():
                place = os.path.join(folder, name, "ab"[side])
                os.makedirs(place)
                write(place, said["params"], said["metrics"])  # type: ignore[arg-type]
        for name in FORMATS:
            a, b = (os.path.join(folder, name, side) for side in "ab")
            taken, yard, size = float("inf"), float("inf"), 0
            for _ in range(given.rounds):
                start = time.perf_counter()
                size = read_bytes(a) + read_bytes(b)
                for text in texts:
                    json.loads(text)
                yard = min(yard, time.perf_counter() - start)
                start = time.perf_counter()
                comparison = api.compare(a, b)
                taken = min(taken, time.perf_counter() - start)
            keys = {d.key for d in comparison.differences if d.severity != "harmless"}
            assert keys == {"lr", f"metric/{SERIES - 1}"}, keys
            print(f"{name:<16}{taken:>12.2f}{yard:>14.2f}{taken / yard:>8.1f}{size / 2 / 2**20:>12.1f}")


if __name__ == "__main__":
    main()
