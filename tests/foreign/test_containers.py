"""Containers: Dockerfile, Compose, docker inspect, NVIDIA's toolkit, Apptainer definitions, inspect dumps and SIF images."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from tests.foreign.test_systems import compared, facts, notes, put

DOCKERFILE = """\
# syntax=docker/dockerfile:1
ARG CUDA={cuda}
ARG BASE=nvidia/cuda:${{CUDA}}-runtime-ubuntu22.04
FROM python:3.11-slim AS build
RUN pip install --no-cache-dir "numpy=={numpy}" \\
    # a comment in between
    && pip install torch==2.3.1
FROM ${{BASE}}@sha256:{digest} AS run
ENV SEED=7 \\
    OMP_NUM_THREADS="{threads}"
LABEL org.example.team="vision" org.opencontainers.image.created="{created}"
RUN <<EOF
apt-get update && apt-get install -y libopenblas0={blas}
conda install -y -c conda-forge scipy=1.13.0
EOF
COPY --from=build /usr/local /usr/local
CMD ["python", "train.py"]
"""


def dockerfile(**changed: str) -> str:
    given = {"cuda": "12.1.1", "numpy": "1.26.4", "digest": "a" * 64, "threads": "4", "created": "2024-01-01", "blas": "0.3.20"}
    return DOCKERFILE.format(**(given | changed))


def test_a_dockerfile_says_images_after_substitution_and_what_is_installed(tmp_path: Path) -> None:
    put(tmp_path, {"Dockerfile": dockerfile()})
    found = facts(tmp_path, "Dockerfile")
    image = f"nvidia/cuda:12.1.1-runtime-ubuntu22.04@sha256:{'a' * 64}"
    assert found["container:FROM"] == found["container:from/run"] == image
    assert found["container:from/build"] == "python:3.11-slim"
    assert found["container:env/OMP_NUM_THREADS"] == "4"
    assert found["container:label/org.example.team"] == "vision"
    assert found["container:package/libopenblas0"] == "0.3.20"
    assert found["environment:package/scipy"] == "1.13.0"
    assert found["environment:stage/build/package/numpy"] == "1.26.4"


@pytest.mark.parametrize(
    ("change", "key", "values"),
    [
        ({"cuda": "12.4.1"}, "FROM", None),
        ({"digest": "b" * 64}, "FROM", None),
        ({"threads": "8"}, "env/OMP_NUM_THREADS", ("4", "8")),
        ({"blas": "0.3.26"}, "package/libopenblas0", ("0.3.20", "0.3.26")),
        ({"numpy": "2.0.1"}, "stage/build/package/numpy", ("1.26.4", "2.0.1")),
    ],
)
def test_each_change_of_a_dockerfile_is_told(change: dict[str, str], key: str, values: tuple[str, str] | None, tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, {"Dockerfile": dockerfile()}, {"Dockerfile": dockerfile(**change)})
    assert key in found and (values is None or found[key] == values)
    assert len([d for d in comparison.differences if d.severity != "harmless" and not d.reason.startswith("follows")]) == len(
        {key} | ({"arg/CUDA"} & set(found))
    ), found


def test_wheels_that_a_stage_builds_are_packages(tmp_path: Path) -> None:
    texts = (
        f"FROM python:3.11 AS wheels\nRUN pip wheel -w /w numpy=={v}\nFROM python:3.11\nCOPY --from=wheels /w /w\n"
        for v in ("1.26.4", "2.0.2")
    )
    a, b = ({"Dockerfile": text} for text in texts)
    found = compared(tmp_path, a, b)[0].differences
    assert [(d.key, d.a, d.b, d.severity) for d in found] == [("stage/wheels/package/numpy", "1.26.4", "2.0.2", "critical")]


def test_variables_of_an_image_count_as_their_names_tell(tmp_path: Path) -> None:
    a, b = ({"Dockerfile": f"FROM python:3.11\nENV PYTHONHASHSEED={n} BUILD_HOST=h{n}\n"} for n in (0, 1))
    comparison, _ = compared(tmp_path, a, b)
    assert {d.key: d.severity for d in comparison.differences} == {"env/PYTHONHASHSEED": "critical", "env/BUILD_HOST": "notable"}
    assert "same arguments" in comparison.causes[0].remedy and "digest" not in comparison.causes[0].remedy


def test_the_date_of_a_build_is_no_difference(tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, {"Dockerfile": dockerfile()}, {"Dockerfile": dockerfile(created="2025-06-06")})
    assert comparison.verdict == "identical", found


COMPOSE = """\
services:
  train:
    image: team/train:${TAG:-1.0}
    environment:
      SEED: 1
      MODE: fast
    command: python train.py --lr 0.1
    deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}}}
"""
OTHER_FORM = """\
x-common: &common
  environment: [MODE=fast, "SEED=1"]
services:
  train:
    <<: *common
    image: "team/train:1.0"
    command: [python, train.py, --lr, "0.1"]
    gpus: [{driver: nvidia, count: 1}]
"""


def test_compose_files_that_mean_the_same_are_equal(tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, {"compose.yaml": COMPOSE}, {"docker-compose.yml": OTHER_FORM})
    assert comparison.verdict == "identical", found


def test_compose_is_read_with_its_override_and_variables(tmp_path: Path) -> None:
    files = {"compose.yaml": COMPOSE, ".env": "TAG=2.0\n", "compose.override.yaml": "services: {train: {environment: {SEED: 2}, env_file: [more.env]}}\n",
             "more.env": "EXTRA=yes\nSEED=9\n"}  # fmt: skip
    _, found = compared(tmp_path, {"compose.yaml": COMPOSE}, dict(files))
    assert found["services/train/image"] == ("team/train:1.0", "team/train:2.0")
    assert found["services/train/env/SEED"] == ("1", "2")
    assert found["services/train/env/EXTRA"][1] == "yes"


def inspected(digest: str, cuda: str, **host: object) -> str:
    return json.dumps(
        [{"Id": digest * 2, "Created": digest, "Name": f"/{digest}", "Image": f"sha256:{digest}", "State": {"Pid": 4},
          "Config": {"Image": "team/train:1", "Hostname": digest, "Env": [f"CUDA_VERSION={cuda}", "PATH=/bin", "WANDB_API_KEY=verysecretkey",
                                                                       "NVIDIA_VISIBLE_DEVICES=all"], "Labels": {"team": "x"}},
          "HostConfig": {"Runtime": "nvidia", "ShmSize": 67108864, **host}}]
    )  # fmt: skip


def test_docker_inspect_and_a_dump_of_the_environment_name_the_same_cuda(tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, {"container.json": inspected("aa", "12.1.1")}, {"container.json": inspected("bb", "12.4.0")})
    assert found["image/digest"] == ("sha256:aa", "sha256:bb")
    assert found["cuda"] == ("12.1.1", "12.4.0")
    assert not any("HOSTNAME" in k or "Pid" in k or "Name" in k for k in found)
    assert "verysecretkey" not in json.dumps(comparison.to_json())
    dump = "CUDA_VERSION=12.1.1\nNVIDIA_VISIBLE_DEVICES=all\nNV_CUDNN_VERSION=8.9.2.26-1+cuda12.1\n"
    _, found = compared(tmp_path / "2", {"container.json": inspected("aa", "12.1.1")}, {"printenv.txt": dump.replace("12.1.1", "12.2.0")})
    assert found["cuda"] == ("12.1.1", "12.2.0")


def test_the_driver_is_known_from_any_source(tmp_path: Path) -> None:
    proc = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Wed Jan  1 00:00:00 UTC 2025\nGCC version:  gcc version 12.2.0\n"
    cdi = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: [{name: '0'}]\ncontainerEdits:\n  mounts:\n  - {hostPath: /usr/lib/libcuda.so.%s, containerPath: /usr/lib/libcuda.so.%s}\n"
    _, found = compared(
        tmp_path, {"proc/driver/nvidia/version": proc.format("535.129.03")}, {"etc/cdi/nvidia.yaml": cdi % ("550.54.14", "550.54.14")}
    )
    assert found["driver"] == ("535.129.03", "550.54.14")


DEFINITION = """\
Bootstrap: docker
From: {base}

%arguments
    numpy={numpy}
%post
    # tools
    apt-get update && apt-get install -y git
    pip install numpy=={{{{ numpy }}}} torch==2.3.1
%environment
    export OMP_NUM_THREADS={threads}
%labels
    Team vision
"""


def definition(base: str = "ubuntu:22.04", numpy: str = "1.26.4", threads: str = "4") -> str:
    return DEFINITION.format(base=base, numpy=numpy, threads=threads)


def image(text: str, labels: dict[str, str]) -> bytes:
    """A SIF image with a definition and labels."""
    bodies = [(0x4001, text.encode()), (0x4003, json.dumps(labels).encode())]
    at = 128 + 585 * len(bodies)
    table = data = b""
    for kind, body in bodies:
        table += struct.pack("<i?IIIqqqqqqq128s384s", kind, True, 1, 1, 0, at + len(data), len(body), len(body), 0, 0, 0, 0, b"x", b"")
        data += body
    head = b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0") + b"SIF_MAGIC\0" + b"01\0" + b"02\0" + b"\0" * 16
    return (head + struct.pack("<8q", 1, 2, 0, len(bodies), 128, len(table), at, len(data))).ljust(128, b"\0") + table + data


def test_definition_inspect_dump_and_image_say_the_same(tmp_path: Path) -> None:
    dump = {
        "data": {"attributes": {"deffile": definition(), "labels": {"Team": "vision", "org.label-schema.build-date": "Monday"}}},
        "type": "container",
    }
    sources: dict[str, str | bytes] = {
        "toy.def": definition(),
        "inspect.json": json.dumps(dump),
        "toy.sif": image(definition(), {"Team": "vision"}),
    }
    wanted = {
        "container:FROM": "ubuntu:22.04",
        "environment:package/numpy": "1.26.4",
        "container:env/OMP_NUM_THREADS": "4",
        "container:label/Team": "vision",
    }
    for name, content in sources.items():
        found = facts(put(tmp_path / name, {name: content}), "Apptainer")
        assert {k: found.get(k) for k in wanted} == wanted, name


@pytest.mark.parametrize(
    ("change", "key"),
    [({"base": "ubuntu:24.04"}, "FROM"), ({"numpy": "2.0.1"}, "package/numpy"), ({"threads": "8"}, "env/OMP_NUM_THREADS")],
)
def test_each_change_of_an_image_is_told(change: dict[str, str], key: str, tmp_path: Path) -> None:
    _, found = compared(tmp_path, {"toy.sif": image(definition(), {})}, {"toy.sif": image(definition(**change), {})})
    assert key in found and set(found) <= {key, "arg/numpy"}


def test_a_cut_image_says_so(tmp_path: Path) -> None:
    put(tmp_path, {"toy.sif": image(definition(), {"Team": "vision"})[:-10]})
    assert facts(tmp_path)["container:FROM"] == "ubuntu:22.04"
    assert "cut" in notes(tmp_path)


def test_another_platform_of_a_base_is_told(tmp_path: Path) -> None:
    text = "FROM --platform=linux/{} python:3.11 AS base\nFROM base\nRUN true\n"
    _, found = compared(tmp_path, {"Dockerfile": text.format("amd64")}, {"Dockerfile": text.format("arm64")})
    assert found == {"platform": ("linux/amd64", "linux/arm64")}


def test_an_image_does_not_know_what_its_container_was_given(tmp_path: Path) -> None:
    config = {"Image": "x:1", "Env": ["A=1", "SEED=3"], "Labels": {"job": "7"}}
    container = {"Id": "c", "Image": "sha256:aa", "Config": config, "HostConfig": {"NetworkMode": "default", "Binds": ["/home/ann/d:/d"]},
                 "Mounts": [{"Type": "bind", "Source": "/home/ann/d", "Destination": "/d"}]}  # fmt: skip
    image = {"Id": "sha256:aa", "RepoTags": ["x:1"], "Config": {"Env": ["A=2"]}}
    _, found = compared(tmp_path / "1", {"inspect.json": json.dumps([image])}, {"inspect.json": json.dumps([container])})
    assert found == {"env/A": ("2", "1")}
    other = {
        **container,
        "HostConfig": {"NetworkMode": "default", "Binds": ["/srv/d:/d"]},
        "Mounts": [{**container["Mounts"][0], "Source": "/srv/d"}],
    }
    comparison, found = compared(tmp_path / "2", {"inspect.json": json.dumps([container])}, {"inspect.json": json.dumps([other])})
    assert comparison.verdict == "identical", found
