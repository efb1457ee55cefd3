"""Lists of packages in the forms that their tools write: what an installer knows of a package beside its version, what is asked for on a
condition, and long values. Each of them was reported wrongly once."""

from __future__ import annotations

import json
from pathlib import Path

from reprodebug import api
from tests.foreign.test_systems import compared, facts, put

# pip


def test_addresses_of_packages_say_their_version_and_bytes(tmp_path: Path) -> None:
    wheel = "torchvision @ https://files.example/whl/torchvision-0.16.0%2B{}-cp311-cp311-linux_x86_64.whl#sha256={}\n"
    put(tmp_path, {"requirements.txt": wheel.format("cu121", "aa11")})
    assert facts(tmp_path)["environment:package/torchvision"] == "0.16.0+cu121"
    _, found = compared(tmp_path / "1", *({"requirements.txt": wheel.format(w, "aa11")} for w in ("cu121", "cu118")))
    assert found == {"package/torchvision": ("0.16.0+cu121", "0.16.0+cu118")}
    _, found = compared(tmp_path / "2", *({"requirements.txt": wheel.format("cu121", h)} for h in ("aa11", "bb22")))
    assert found == {"package/torchvision": ("0.16.0+cu121 (sha256:aa11)", "0.16.0+cu121 (sha256:bb22)")}


def test_where_a_package_lies_on_its_machine_is_no_difference(tmp_path: Path) -> None:
    text = "numpy==1.26.4\n# Editable install with no version control (app=={})\n-e /home/{}/app\nlib @ file:///home/{}/lib\n"
    comparison, found = compared(
        tmp_path / "1", {"freeze.txt": text.format("1.0", "ann", "ann")}, {"freeze.txt": text.format("1.0", "zoe", "zoe")}
    )
    assert comparison.verdict == "identical", found
    _, found = compared(tmp_path / "2", {"freeze.txt": text.format("1.0", "ann", "ann")}, {"freeze.txt": text.format("1.1", "ann", "ann")})
    assert found == {"package/app": ("1.0", "1.1")}
    built = "numpy @ file:///home/conda/feedstock_root/build_artifacts/numpy_{}/work\nsix==1.16.0\ntorch==2.1.0\n"
    _, found = compared(tmp_path / "3", {"freeze.txt": built.format(170)}, {"freeze.txt": built.format(180)})
    assert list(found) == ["package/numpy"]  # conda names the place after the time of the build


def test_what_is_asked_for_on_a_condition_need_not_be_installed(tmp_path: Path) -> None:
    wanted = 'torch==2.1.0\ncolorama=={}; sys_platform == "win32"\ntomli==2.0.{}; python_version < "3.11"\n'
    comparison, found = compared(tmp_path / "1", {"requirements.txt": wanted.format("0.4.6", 1)}, {"freeze.txt": "torch==2.1.0\n"})
    assert comparison.verdict == "identical", found
    comparison, found = compared(tmp_path / "2", *({"requirements.txt": wanted.format(*v)} for v in (("0.4.6", 1), ("0.4.5", 2))))
    assert found == {"package/tomli": ("2.0.1", "2.0.2")}
    assert {d.key for d in comparison.differences} == {"package/tomli", "package/colorama"}


def test_the_same_place_in_two_writings(tmp_path: Path) -> None:
    lock = 'version = 1\n[[package]]\nname = "lib"\nversion = "0.1"\nsource = { editable = "packages/lib" }\n'
    comparison, _ = compared(tmp_path, {"uv.lock": lock}, {"requirements.txt": "-e ./packages/lib\n"})
    assert comparison.verdict == "identical" and not comparison.differences


# projects and Pipenv


def test_pipenv_locks(tmp_path: Path) -> None:
    def lock(numpy: str, six: str, digest: str) -> str:
        default = {"numpy": {"version": f"=={numpy}", "hashes": [f"sha256:{digest}"], "markers": "python_version >= '3.9'"},
                   "tool": {"git": "https://git.example/tool", "ref": "a" * 40}}  # fmt: skip
        meta = {"hash": {"sha256": numpy + six}, "pipfile-spec": 6, "requires": {"python_version": "3.11"}}
        return json.dumps({"_meta": meta, "default": default, "develop": {"six": {"version": f"=={six}"}}})

    _, found = compared(tmp_path / "1", {"Pipfile.lock": lock("1.26.4", "1.16.0", "aa")}, {"Pipfile.lock": lock("2.0.2", "1.17.0", "bb")})
    assert found == {"package/numpy": ("1.26.4", "2.0.2"), "package/six": ("1.16.0", "1.17.0")}
    _, found = compared(tmp_path / "2", {"Pipfile.lock": lock("1.26.4", "1", "aa")}, {"Pipfile.lock": lock("1.26.4", "1", "bb")})
    assert found == {"package/numpy": ("1.26.4 (sha256:aa)", "1.26.4 (sha256:bb)")}
    installed = {"freeze.txt": f"numpy==1.26.4\nsix==1.16.0\ntool @ git+https://git.example/tool@{'a' * 40}\n"}
    comparison, found = compared(tmp_path / "3", {"Pipfile.lock": lock("1.26.4", "1.16.0", "aa")}, installed)
    assert comparison.verdict == "identical", found


def test_what_a_project_asks_for_where_nothing_more_exact_is_there(tmp_path: Path) -> None:
    poetry = '[tool.poetry.dependencies]\npython = ">=3.10"\nnumpy = "{}"\nsix = {{version = "*", extras = ["x"]}}\n'
    _, found = compared(tmp_path / "1", {"pyproject.toml": poetry.format("^1.26")}, {"pyproject.toml": poetry.format("2.0.2")})
    assert found == {"package/numpy": ("^1.26", "2.0.2")}
    plain = '[project]\nname = "app"\nversion = "{}"\ndependencies = ["numpy=={}"]\n[project.optional-dependencies]\ndocs = ["sphinx"]\n'
    _, found = compared(tmp_path / "2", {"pyproject.toml": plain.format(1, "1.26.4")}, {"pyproject.toml": plain.format(2, "2.0.2")})
    assert found == {"package/numpy": ("1.26.4", "2.0.2")}
    # a range that the other side's installation satisfies is no difference, and a lock beside the file counts alone
    installed = {"freeze.txt": "numpy==1.26.4\nsix==1.16.0\n"}
    comparison, found = compared(tmp_path / "3", {"pyproject.toml": poetry.format("^1.25")}, installed)
    assert comparison.verdict == "identical", found
    _, found = compared(tmp_path / "4", {"pyproject.toml": poetry.format("^2.0")}, installed)
    assert found == {"package/numpy": ("^2.0", "1.26.4")}
    assert "environment:package/six" not in facts(
        put(tmp_path / "5", {"pyproject.toml": poetry.format("^2"), "poetry.lock": "version = 1"})
    )


# conda


def test_archives_of_conda_are_told_apart_by_their_hash(tmp_path: Path) -> None:
    line = "@EXPLICIT\nhttps://c.example/conda-forge/linux-64/numpy-1.26.4-py311_0.{}#{}\n"
    _, found = compared(tmp_path / "1", {"e.txt": line.format("conda", "01")}, {"e.txt": line.format("conda", "02")})
    assert list(found) == ["package/numpy"]
    comparison, found = compared(tmp_path / "2", {"e.txt": line.format("conda", "01")}, {"e.txt": line.format("tar.bz2", "02")})
    assert comparison.verdict == "identical", found
    meta = {"name": "numpy", "version": "1.26.4", "build": "py311_0", "fn": "numpy-1.26.4-py311_0.conda", "md5": "01", "sha256": "ff"}
    comparison, found = compared(tmp_path / "3", {"e.txt": line.format("conda", "01")}, {"conda-meta/numpy.json": json.dumps(meta)})
    assert comparison.verdict == "identical", found


def test_what_pip_installed_into_conda_is_read_from_every_list(tmp_path: Path) -> None:
    export = "# platform: linux-64\n# $ conda create --name <env> --file <this file>\nnumpy=1.26.4=py311_0\neinops=0.7.0=pypi_0\n"
    explicit = "@EXPLICIT\nhttps://c.example/conda-forge/linux-64/numpy-1.26.4-py311_0.conda#01\n# pip einops @ https://f.example/einops-{}-py3-none-any.whl --hash=sha256:01\n"
    comparison, found = compared(tmp_path / "1", {"list.txt": export}, {"e.txt": explicit.format("0.7.0")})
    assert comparison.verdict == "identical", found
    _, found = compared(tmp_path / "2", {"list.txt": export}, {"e.txt": explicit.format("0.8.0")})
    assert found == {"package/einops": ("0.7.0", "0.8.0")}
    yml = {"environment.yml": "channels: [conda-forge]\ndependencies:\n- numpy=1.26.4\n- pip:\n  - -r more/pip.txt\n"}
    _, found = compared(tmp_path / "3", *({**yml, "more/pip.txt": f"einops=={v}\n"} for v in ("0.7.0", "0.8.0")))
    assert found == {"package/einops": ("0.7.0", "0.8.0")}


def test_pixi_keeps_its_environments_apart(tmp_path: Path) -> None:
    base = "https://c.example/conda-forge/linux-64"

    def lock(cuda: str, numpy: str) -> dict[str, str | bytes]:
        urls = [f"{base}/pytorch-2.1.0-{cuda}.conda", f"{base}/pytorch-2.1.0-cpu.conda", f"{base}/numpy-{numpy}-py311_0.conda"]
        places = {"cuda": [urls[0], urls[2]], "default": urls[1:]}
        environments = {n: {"channels": [], "packages": {"linux-64": [{"conda": u} for u in own]}} for n, own in places.items()}
        return {
            "pixi.lock": json.dumps({"version": 6, "environments": environments, "packages": [{"conda": u, "sha256": "aa"} for u in urls]})
        }

    _, found = compared(tmp_path / "1", lock("cuda120", "1.26.4"), lock("cuda118", "1.26.4"))
    assert found == {"package/pytorch": ("2.1.0=cuda120", "2.1.0=cuda118")}
    _, found = compared(tmp_path / "2", lock("cuda120", "1.26.4"), lock("cuda120", "2.0.2"))
    assert found == {"package/numpy": ("1.26.4", "2.0.2")}


# values


def test_long_values_that_part_late_differ_and_show_where(tmp_path: Path) -> None:
    long = "y" * 30_000
    _, found = compared(tmp_path / "1", {"config.json": json.dumps({"x": long + "a"})}, {"config.json": json.dumps({"x": long + "b"})})
    assert list(found) == ["x"] and found["x"][0] != found["x"][1]
    _, found = compared(
        tmp_path / "2", {"config.json": json.dumps({"x": list(range(3000))})}, {"config.json": json.dumps({"x": [*range(2999), 7]})}
    )
    assert found["x"][0].endswith("2998, 2999]") and found["x"][1].endswith("2998, 7]") and "equal characters" in found["x"][0]
    many = {"x": [1] * 20_000}
    _, found = compared(tmp_path / "3", {"config.json": json.dumps(many)}, {"config.json": json.dumps({"x": [*many["x"][:-1], 2]})})
    assert list(found) == ["x"]
    side = str(tmp_path / "1" / "a")
    assert api.compare(side, side).verdict == "identical"


def test_infinity_is_one_number_in_every_writing(tmp_path: Path) -> None:
    comparison, found = compared(tmp_path, {"config.json": '{"x": Infinity, "y": -Infinity}'}, {"config.yaml": "x: inf\ny: -.inf\n"})
    assert comparison.verdict == "identical", found


# clusters


def test_slurm_scripts_say_what_a_job_asked_for(tmp_path: Path) -> None:
    text = """#!/bin/bash
#SBATCH --job-name={0}
#SBATCH -o /home/{0}/%j.out
#SBATCH --gres=gpu:{1}:2   # two of them
#SBATCH -n 4 --cpus-per-task {2} --exclusive
module purge
module load cuda/{3} python/3.11
ml gcc
module swap gcc gcc/12.2
export OMP_NUM_THREADS={2} TOKEN_X=hunter{0}
srun python train.py \\
    --lr {4}
"""
    same = {"job.sbatch": text.format(1, "a100", 8, "12.1", 0.1)}
    comparison, found = compared(tmp_path / "1", same, {"other.sh": text.format(2, "v100", 4, "11.8", 0.2)})
    secret = found.pop("slurm/env/TOKEN_X")
    assert "hunter" not in "".join(secret) and secret[0] != secret[1]
    assert found == {
        "slurm/gres": ("gpu:a100:2", "gpu:v100:2"), "slurm/cpus-per-task": ("8", "4"), "module/cuda": ("12.1", "11.8"),
        "slurm/env/OMP_NUM_THREADS": ("8", "4"), "commands": ('["srun python train.py --lr 0.1"]', '["srun python train.py --lr 0.2"]'),
    }  # fmt: skip
    remedies = {c.summary.partition(" (")[0]: c.remedy for c in comparison.causes}
    assert (
        "same modules" in remedies["the environment's module/cuda"]
        and "variable" in remedies["the environment's slurm/env/OMP_NUM_THREADS"]
    )
    own = facts(tmp_path / "1" / "a")
    assert (
        own["environment:module/gcc"] == "12.2" and own["environment:slurm/exclusive"] == "yes" and own["environment:slurm/ntasks"] == "4"
    )
    assert not facts(put(tmp_path / "2", {"run.sh": "#!/bin/sh\nexport A=1\npython x.py\n"}))


def test_what_conda_calls_torch_computes_too(tmp_path: Path) -> None:
    def files(n: int) -> dict[str, str | bytes]:
        return {"environment.yml": f"name: x\ndependencies:\n- pytorch=2.{n}.0\n- libcublas=12.{n}\n- libcurl=8.{n}\n"}

    comparison, _ = compared(tmp_path, files(1), files(2))
    severity = {d.key: d.severity for d in comparison.differences}
    assert severity == {"package/pytorch": "critical", "package/libcublas": "critical", "package/libcurl": "notable"}
