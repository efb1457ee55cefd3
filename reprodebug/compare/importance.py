"""How much a difference around the tensors matters, by name: tables and the sentence that says why.

Owns every severity of ``surroundings``. Refuses to look at values beyond what a table needs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

CRITICAL, NOTABLE, HARMLESS = "critical", "notable", "harmless"
Rated = tuple[str, str]
"""(severity, reason)"""

TEMPORARY = re.compile(
    r"/(?:private/)?(?:tmp|var/tmp|var/folders/[^/\s]+/[^/\s]+/T)"
    r"/(?:tmp[\w.-]{6,}|pymp-\w+|pytest-of-[^/\s]+/pytest-\d+|[0-9a-f]{12,})(?=/|$)"
)
"""folders with a random name; any other name below /tmp was chosen and counts"""

# command line

_OUTPUT = re.compile(
    r"^((out|output|outputs|save|saving|log|logs|logging|results?|run|exp|experiment|tensorboard|tb|wandb|mlflow|ckpt|checkpoint|dump|plot)"
    r"_?(s|dir|dirs|path|root|folder|file|name|to|prefix|suffix|base|id|freq|interval|every|steps|level|url|uri)?"
    r"|name|job_?name|job_?id|project|entity|group|tags?|notes?|comment|title|user|host|hostname|port|master_?(port|addr)|rdzv_\w+"
    r"|verbose|quiet|q|v|progress|no_progress|print_(freq|every|interval)|color|report_to|tracker|o)$"
)
OUTPUT_NAME = "a name, an address or a place for output, no input of the computation"
"""said of an option that by its name is no number to compute with; its text may be one all the same (see the rule "computed name")"""
_INPUT_ALL_THE_SAME = re.compile(r"^(checkpoint|ckpt|ckpt_path|checkpoint_path|ckpt_file|checkpoint_file|exp|run|experiment)$")
_WORKERS = re.compile(r"^(num_|n_|data_|loader_|dataloader_)*(workers|prefetch|prefetch_factor)$")
_NUMBER = re.compile(r"^-\d*\.?\d")


_INTERPRETER = re.compile(r"(.*/)?(python|pypy)[\d.]*(\.exe)?$")
_LAUNCHER = re.compile(r"(.*/)?(taskset|numactl|nice|ionice|chrt|setarch|stdbuf|timeout|nohup|time|env)$")
"""commands that start another one; which cores, variables and so on it has is recorded by itself"""
_INTERPRETERS_OWN = re.compile(r"-(?:[bBdEiIOPqsSuvx]+|([WX]).*)")
"""options of the interpreter before the script; ``-W`` and ``-X`` have a value"""


_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@-]*")
"""what stands before the ``=`` of a word that sets a key of the configuration"""


def options(command: Sequence[str]) -> dict[str, str]:
    """A command line by option: ``--lr 0.1``, ``--lr=0.1``, ``lr=0.1`` -> ``--lr``/``lr``; ``--set lr=0.1`` ->
    ``--set lr``; other words by their position."""
    found: dict[str, list[str]] = {}
    position = 0
    words = list(command)
    start = next((n for n, word in enumerate(words) if _INTERPRETER.match(word)), 0)
    if start and _LAUNCHER.match(words[0]):
        found["launcher"], words = [" ".join(words[:start])], words[start:]
    n = 0
    while n < len(words):
        word = words[n]
        n += 1
        name, equals, value = word.partition("=")
        if position == 1 and _INTERPRETER.match(words[0]) and (flag := _INTERPRETERS_OWN.fullmatch(word)):
            if flag[1] and n < len(words) and not word[2:]:
                word, n = f"{word} {words[n]}", n + 1
            found.setdefault(f"python {word}", []).append("(given)")
        elif word.startswith("-") and len(word) > 1 and not _NUMBER.match(word):
            if word in ("-m", "-c") and n < len(words):
                key, value, n = word, words[n], n + 1
            elif equals:
                key = name
            elif n < len(words) and (not words[n].startswith("-") or _NUMBER.match(words[n])):
                key, value, n = word, words[n], n + 1
                of, sets, to = value.partition("=")
                if sets and _OVERRIDE.fullmatch(of):  # --set optim.lr=0.1
                    key, value = f"{word} {of.lstrip('+~')}", to
            else:
                key, value = word, "(given)"
            found.setdefault(key if not key.startswith("--") else key.replace("_", "-"), []).append(value)
        elif equals and _OVERRIDE.fullmatch(name):
            found.setdefault(name.lstrip("+~"), []).append(value)
        else:
            found[f"word {position}" if position else "program"] = [word]
            position += 1
    return {key: " ".join(values) for key, values in found.items()}


def option(key: str) -> Rated:
    """An option of the command line, or a key of a configuration file."""
    name = re.split(r"[. ]", key.lstrip("-"))[-1].replace("-", "_").lower()
    if key.startswith("python -"):
        return HARMLESS, "an option of the interpreter; what it sets is compared by itself"
    if key == "launcher":
        return HARMLESS, "what it sets for the program is compared by itself"
    if key == "program":
        return HARMLESS, "the same interpreter may have several names; its version is compared by itself"
    if _WORKERS.match(name):
        return NOTABLE, "seeds and order of random augmentation may depend on the number of workers"
    if _INPUT_ALL_THE_SAME.match(name):
        return NOTABLE, "names an output, or the state that the run starts from"
    if _OUTPUT.match(name):
        return HARMLESS, OUTPUT_NAME
    if key.startswith("word "):
        return CRITICAL, "the command has another argument at this place"
    return CRITICAL, "an option that the program computes with, as far as its name tells"


# interpreter

_FLAG_REASONS = {"optimize": "assertions are left out", "hash_randomization": "the order of sets of strings depends on it"}


def python_flag(name: str) -> Rated:
    """A member of ``sys.flags``."""
    if name in _FLAG_REASONS:
        return NOTABLE, _FLAG_REASONS[name]
    if name in ("isolated", "ignore_environment", "no_user_site", "no_site", "safe_path", "utf8_mode"):
        return NOTABLE, "decides what is imported or how text is read"
    return HARMLESS, "a diagnostic switch of the interpreter"


def interpreter(key: str, a: str, b: str) -> Rated:
    """A fact about the interpreter, with its two values."""
    if key == "version":
        if a.split(".")[:2] != b.split(".")[:2]:
            return CRITICAL, "another Python: other order, hashing and library code"
        return NOTABLE, "another patch release of Python"
    if key in ("implementation", "byteorder", "platform"):
        return CRITICAL, "another kind of interpreter or machine"
    if key in ("locale", "filesystem_encoding"):
        return NOTABLE, "sorting and reading of text may depend on it"
    return HARMLESS, "where the interpreter lies or what it prints to, no input of the computation"


# packages

NUMERIC = frozenset(
    """torch torchvision torchaudio torchtext torchdata numpy scipy scikit-learn scikit-image pandas polars pyarrow numba
    numexpr llvmlite jax jaxlib tensorflow keras cupy triton pytorch-triton mkl intel-openmp onednn openblas
    transformers tokenizers sentencepiece tiktoken datasets accelerate diffusers peft trl timm lightning
    pytorch-lightning torchmetrics deepspeed xformers flash-attn bitsandbytes apex transformer-engine megatron-core
    fairscale einops opt-einsum pillow pillow-simd opencv-python opencv-python-headless opencv-contrib-python
    albumentations kornia imageio imgaug torchio monai librosa soundfile resampy torch-geometric dgl pyg-lib
    torch-scatter torch-sparse gymnasium gym stable-baselines3 lightgbm xgboost catboost h5py zarr safetensors ml-dtypes
    networkx nltk spacy sympy""".split()  # noqa: SIM905  a table, wrapped like text
)  # fmt: skip
"""packages whose code computes, draws, decodes or orders what a model sees"""
_NUMERIC_FAMILY = re.compile(r"^(nvidia-|torch-|lightning-|mkl-|cuda-|cupy-|jax-|onnx)")
_OF_CONDA = re.compile(
    r"(lib)?(pytorch|torch|c?blas|lapacke?|openblas|cu(da|dnn|blas|fft|rand|solver|sparse|tensor)\w*|nccl|magma|opencv|jpeg-turbo|faiss|gomp)(-|$)"
    r"|(tensorflow-base|py-opencv|llvm-openmp|cudatoolkit|numpy-base)$"
)
"""what conda calls packages that compute, and libraries that pip has inside its wheels"""
_TOOLS = frozenset(
    """pip setuptools wheel uv tqdm rich click typer colorama tensorboard tensorboardx wandb mlflow comet-ml neptune aim
    clearml pytest coverage black ruff mypy isort ipython jupyter ipykernel matplotlib seaborn plotly requests urllib3
    certifi idna charset-normalizer httpx httpcore aiohttp packaging typing-extensions filelock platformdirs gitpython
    gitdb smmap psutil py-cpuinfo pynvml nvidia-ml-py loguru structlog tabulate termcolor prettytable sentry-sdk
    protobuf grpcio markdown werkzeug jinja2 markupsafe reprodebug""".split()  # noqa: SIM905  a table, wrapped like text
)  # fmt: skip


def package(name: str, used: set[str] | None) -> Rated:
    """An installed package; ``used`` are those that either run imported, None where that is not known."""
    if used is not None and name not in used and not name.startswith("nvidia-"):
        return HARMLESS, "imported by neither run"
    if name in NUMERIC or _NUMERIC_FAMILY.match(name) or _OF_CONDA.match(name):
        return CRITICAL, "computes, draws or decodes what the model sees"
    if name in _TOOLS:
        return HARMLESS, "a tool for output, tests or transport"
    return NOTABLE, "imported by a run" if used is not None else "whether a run imported it is not recorded"


FOLDERS = {"sklearn": "scikit_learn", "pil": "pillow", "cv2": "opencv_python", "yaml": "pyyaml", "skimage": "scikit_image"}
"""folder in site-packages -> its distribution, where the names differ"""
_LIBRARY = re.compile(
    r"(openblas|mkl|blis|blas|lapack|atlas|omp|torch|c10|cud[an]|cublas|cufft|curand|cusolver|cusparse|nccl|nvrtc|nvjit|dnnl|onednn|ideep"
    r"|svml|libm\b|libm-|libmvec|libc\b|jpeg|png|tiff|webp|turbojpeg|opencv|avcodec|hip|roc|miopen|sleef|tbb|nvjpeg|umath|gfortran)"
)


def library_stem(name: str) -> str:
    """A shared library's name without the parts that a build or a release changes."""
    stem = name.split(".so", 1)[0]
    stem = re.sub(r"\.cpython-\d+.*$|\.abi3$", "", stem)
    for part in (r"-?\d*(\.\d+)+$", r"(-[0-9a-f]{8})+$", r"-r\d+$"):
        stem = re.sub(part, "", stem)
    return stem


def library(stem: str, both: bool) -> Rated:
    """A shared library that is another file in the other run, or mapped by one run only."""
    if _LIBRARY.search(stem.lower()):
        return (
            CRITICAL if both else NOTABLE
        ), "another build of a library that computes" if both else "a computing library that one run used"
    return (NOTABLE if both else HARMLESS), "another build" if both else "mapped by one run only"


# torch

_HARDWARE_SETTINGS = frozenset({"intra_op_threads", "inter_op_threads", "cpu_capability"})
_SETTING_REASONS = {
    "intra_op_threads": "sums are split among the threads: another number, another rounding",
    "inter_op_threads": "operations may run in another order",
    "cpu_capability": "other vector kernels with another order of sums",
    "cudnn_benchmark": "the convolution algorithm is chosen by a timing",
    "default_dtype": "another precision",
}


def setting(name: str, both: bool) -> tuple[str, Rated]:
    """``(section, rated)`` of one of torch's settings (recorder/facts.py)."""
    section = "hardware" if name in _HARDWARE_SETTINGS else "config"
    if not both:
        return section, (NOTABLE, "recorded in one run only")
    if name.startswith(("jit_", "dynamo_", "autocast_cache", "grad_anomaly")) or name == "deterministic_warn_only":
        return section, (NOTABLE, "decides how the same operations are run")
    return section, (CRITICAL, _SETTING_REASONS.get(name, "selects other kernels or another precision"))


def torch_build(name: str) -> tuple[str, Rated]:
    """``(section, rated)`` of a fact about the torch build."""
    if name in ("omp_threads", "mkl_threads"):
        return "hardware", (CRITICAL, _SETTING_REASONS["intra_op_threads"])
    if name == "hardware_concurrency":
        return "hardware", (NOTABLE, "the number of threads follows it where none is set")
    if name in ("compiler", "build_type", "debug", "nccl", "cuda_archs", "magma"):
        return "environment", (NOTABLE, "another build of torch")
    return "environment", (CRITICAL, "another torch or another library below it")


# variables

_VARIABLES: tuple[tuple[str, str, str], ...] = (
    (
        CRITICAL,
        r"""
        (OMP|MKL|OPENBLAS|BLIS|VECLIB_MAXIMUM|NUMEXPR|GOTO|NUMBA|POLARS_MAX|RAYON)_(NUM|MAX)?_?THREADS | MKL_DYNAMIC
        | MKL_CBWR | MKL_ENABLE_INSTRUCTIONS | MKL_DEBUG_CPU_TYPE | OPENBLAS_CORETYPE |
        NPY_(DISABLE|ENABLE)_CPU_FEATURES | OMP_\w+ | KMP_\w+ | GOMP_\w+
        """,
        "threads or instructions of the libraries that compute",
    ),
    (
        CRITICAL,
        r"""
        ATEN_CPU_CAPABILITY | (DNNL|ONEDNN)_\w+ | CUBLAS\w* | NVIDIA_TF32_OVERRIDE |
        TORCH_(ALLOW_TF32|CUDNN|BLAS|LINALG)\w* | PYTORCH_(JIT|TENSOREXPR|MPS|NVFUSER|NO_CUDA_MEMORY_CACHING)\w* |
        CUDNN_\w+ | TORCHINDUCTOR_\w+ | TORCHDYNAMO_\w+ | TORCH_COMPILE\w* | TRITON_\w+ |
        NCCL_(ALGO|PROTO|NTHREADS|MIN_\w+|MAX_\w+|NVLS\w*|COLLNET\w*|BUFFSIZE) | XLA_FLAGS | TF_\w+ | HSA_\w+ |
        HIPBLASLT?_\w+ | MIOPEN_\w+ | ROCBLAS_\w+
        """,
        "selects kernels, algorithms or precision",
    ),
    (
        CRITICAL,
        r"""
        PYTHONHASHSEED
        """,
        "the order of sets of strings depends on it",
    ),
    (
        CRITICAL,
        r"""
        WORLD_SIZE | LOCAL_WORLD_SIZE | (PL_GLOBAL_|GLOBAL_|TORCH_|NUMPY_)?SEED
        """,
        "the program computes with it",
    ),
    (
        NOTABLE,
        r"""
        CUDA_(VISIBLE_DEVICES|LAUNCH_BLOCKING|DEVICE_ORDER|MODULE_LOADING) | HIP_VISIBLE_DEVICES | NVIDIA_\w+ |
        PYTORCH_\w+ | TORCH_\w+ | NCCL_\w+ | LD_PRELOAD | LD_LIBRARY_PATH | DYLD_\w+ | PYTHONPATH | PYTHONOPTIMIZE |
        PYTHONWARNINGS | MALLOC_\w+ | LC_ALL | LC_COLLATE | LC_CTYPE | LANG | TZ | TOKENIZERS_PARALLELISM |
        (HF|TRANSFORMERS|DATASETS|HUGGINGFACE)_\w+ |
        SLURM_(NTASKS|CPUS_PER_TASK|NNODES|NPROCS|CPUS_ON_NODE|GPUS\w*|MEM_\w+) | ACCELERATE_\w+ | DEEPSPEED_\w+ |
        FSDP_\w+
        """,
        "may choose devices, libraries or behaviour",
    ),
    (
        HARMLESS,
        r"""
        TERM\w* | COLORTERM | COLUMNS | LINES | NO_COLOR | FORCE_COLOR | LS_COLORS | CLICOLOR | LESS\w* | PAGER |
        EDITOR | VISUAL | GIT_(EDITOR|PAGER) | SHELL | SHLVL | PS1 | PROMPT\w* | HISTFILE | HISTSIZE | HISTCONTROL |
        INPUTRC | _ | OLDPWD | PWD | HOME | USER | USERNAME | LOGNAME | MAIL | HOSTNAME | HOST | HOSTTYPE | DISPLAY
        | WAYLAND\w* | WINDOWID | XDG_\w+ | DBUS_\w+ | DESKTOP\w* | GNOME_\w+ | GTK_\w+ | KDE_\w+ | QT_\w+ | SSH_\w+
        | GPG_\w+ | TMUX\w* | STY | VTE_\w+ | ITERM\w* | VSCODE\w* | PYCHARM\w* | JPY_\w+ | INVOCATION_ID |
        JOURNAL_STREAM | SYSTEMD\w* | MANAGERPID | LC_\w+ | LANGUAGE | BASH_FUNC\w*.* | BASH\w* | ZSH\w* | MANPATH |
        INFOPATH | LESSOPEN | MOTD\w* | SUDO_\w+
        """,
        "a terminal's, shell's or user's variable",
    ),
    (
        HARMLESS,
        r"""
        SLURM\w* | SBATCH\w* | SRUN\w* | PBS_\w+ | LSB_\w+ | KUBERNETES_\w+ | \w+_SERVICE_(HOST|PORT)\w* |
        \w+_PORT(_\d+_\w+)? | PMI\w* | PMIX\w* | OMPI_\w+ | HYDRA_\w+ | MASTER_(ADDR|PORT) |
        (LOCAL_|GROUP_|ROLE_)?RANK | ROLE_\w+ | TORCHELASTIC_\w+ | GROUP_WORLD_SIZE
        """,
        "a job's, node's or process's name or number",
    ),
    (
        HARMLESS,
        r"""
        PATH | VIRTUAL_ENV\w* | CONDA\w* | _CE_\w+ | PYENV\w* | PIP_\w+ | UV_\w+ | POETRY\w* | PYTEST\w* | CI |
        GITHUB_\w+ | GITLAB_\w+ | BUILD_\w+ | TMPDIR | TEMP | TMP | WANDB_\w+ | MLFLOW_\w+ | COMET_\w+ | NEPTUNE_\w+
        | RUN_?(NAME|ID) | EXP\w*_NAME | JOB_(NAME|ID) | LOG\w* | OUTPUT\w* |
        PYTHON(DONTWRITEBYTECODE|UNBUFFERED|PYCACHEPREFIX|FAULTHANDLER|IOENCODING|STARTUP|BREAKPOINT|TRACEMALLOC) |
        MPLBACKEND | MPLCONFIGDIR | HTTPS?_PROXY | NO_PROXY | ALL_PROXY | https?_proxy | no_proxy | MAKE\w* | MFLAGS
        | CC | CXX | CFLAGS | CXXFLAGS | LDFLAGS
        """,
        "a tool's variable or a place; what it leads to is compared by itself",
    ),
)


@functools.cache
def _variable_patterns() -> tuple[tuple[str, re.Pattern[str], str], ...]:
    return tuple((severity, re.compile(pattern, re.VERBOSE), reason) for severity, pattern, reason in _VARIABLES)


USER = ("LOGNAME", "USER", "LNAME", "USERNAME")
"""variables that ``getpass.getuser()`` asks, in its order"""
UNKNOWN = "the program may read it"
"""said of a variable whose name tells nothing"""
NO_EFFECT = "it changed no recorded tensor"
"""the reason of every difference around two runs whose tensors are all equal"""
NAMED = "names it"
"""said of a variable that is harmless by its name, and that the program reads all the same"""


def variable(name: str) -> Rated:
    """An environment variable."""
    for severity, pattern, reason in _variable_patterns():
        if pattern.fullmatch(name):
            return severity, reason
    return NOTABLE, UNKNOWN


# machine


def hardware(key: str) -> Rated:
    """A fact about the machine."""
    if key in ("machine", "cpu_flags", "gpus"):
        return CRITICAL, "other kernels are chosen"
    if key == "cpu":
        return CRITICAL, "libraries choose kernels and block sizes by the processor"
    if key in ("cores", "logical_cpus", "cpus_allowed"):
        return NOTABLE, "the number of threads follows it where none is set"
    if key in ("nvidia_driver", "cuda_driver"):
        return NOTABLE, "the driver compiles some kernels"
    return HARMLESS, "no input of the computation"


def gpu(fact: str) -> Rated:
    """A fact in which two cards of the same name differ."""
    if fact in ("capability", "multi_processors", "mig"):
        return CRITICAL, "libraries choose kernels and split work by it"
    if fact == "memory_gib":
        return NOTABLE, "libraries choose algorithms by the memory that is free"
    if fact == "id":
        return HARMLESS, "another card of the same kind"
    return HARMLESS, "it changes how fast the card computes, not what"


def system(key: str) -> Rated:
    """A fact about the operating system or the container."""
    if key == "libc":
        return NOTABLE, "its mathematical functions may round differently"
    if key == "image":
        return NOTABLE, "another container image"
    return HARMLESS, "no input of the computation; the libraries inside are compared by themselves"


# data


REORDERED = "the same values, in another order or form (1 for 1.0): it matters to what goes through them one by one"
"""said of a file that holds the same keys and values"""
MADE_BY_THE_OTHER: Rated = (CRITICAL, "one run made this file, the other found and read one")


MOVED = "another path, the same content"
CHANGED_BY_BOTH = "a database of other content was opened, and each run changed it"
"""what it holds may be the program's data, or only what is noted of each run"""


def data(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> Rated | None:
    """A file of which the two records differ; None where that says nothing."""
    reads = [e is not None and e.get("mode") != "write" for e in (a, b)]
    x, y = a or {}, b or {}
    by_source = "source" in (x.get("by"), y.get("by"))
    if by_source and not all(reads):
        return None  # that it was read is not known
    if not any(reads):
        return None
    if all(reads):
        hashes = [str(e.get("hash") or "") for e in (x, y)]
        if all(hashes):
            if hashes[0] == hashes[1]:
                return None
            if hashes[0].partition(":")[0] != hashes[1].partition(":")[0]:
                return NOTABLE, "hashed in two ways: whether the content is the same is not known"
        elif x.get("size") == y.get("size"):
            return None
        if x.get("written") and y.get("written"):
            return NOTABLE, "each run wrote this file itself before it read it"
        if x.get("changed") and y.get("changed"):
            return NOTABLE, CHANGED_BY_BOTH
        if bool(x.get("written")) != bool(y.get("written")) and not by_source:
            return MADE_BY_THE_OTHER
        return CRITICAL, "a file that the source names has other content" if by_source else "a file of other content was read"
    other = y if reads[0] else x
    if other:
        return MADE_BY_THE_OTHER
    if (x or y).get("written"):
        return NOTABLE, "written and read by one run only"
    return NOTABLE, "read by one run only"


def data_text(entry: Mapping[str, Any] | None) -> str | None:
    """A file's record in a few words."""
    if entry is None:
        return None
    if entry.get("mode") == "write":
        return "written by the run, not read" + (" (it existed before)" if entry.get("existed") else "")
    algorithm, _, digest = str(entry.get("hash") or "").rpartition(":")
    digest = (digest[:12] if algorithm in ("", "xxh3-128") else f"{algorithm} {digest[:12]}") or "not hashed"
    words = ["written by the run, then read"] if entry.get("written") else []
    words += [f"{entry['size']:,} bytes" if isinstance(entry.get("size"), int) else "", digest]
    words += ["sampled"] if entry.get("sampled") else []
    return ", ".join(w for w in words if w)
