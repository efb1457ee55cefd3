"""What must never be written down: secrets, told by a variable's name or by the form of its value.

Owns the decision and the replacement. The replacement is a short keyed hash, so that two runs
can still be told to have used the same or another secret; the key is random per user and stays on the machine.
"""

from __future__ import annotations

import hashlib
import os
import re

_NAME = re.compile(
    r"(SECRET|TOKEN|PASSW|PASSPHRASE|PASSCODE|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY|ACCOUNT_?KEY|AUTH|COOKIE|SESSION_?ID"
    r"|BEARER|SIGNATURE|WEBHOOK|CONNECTION_?STRING|(^|_)KEY$|(^|_)PWD$|(^|_)PAT$|(^|_)DSN$|(^|_)SAS$|(^|_)KEYS?(_|$)|(^|_)PASS(_|$))",
    re.IGNORECASE,
)
_NOT_SECRET = frozenset({"SSH_AUTH_SOCK", "XAUTHORITY", "GPG_AGENT_INFO", "PWD", "OLDPWD"})
_ABOUT_TEXT = re.compile(
    r"TOKENI[SZ]|TOKEN_?TYPE|TOKENS?_(DIM|SIZE|LEN|LENGTH|COUNT|PER|LIMIT|BUDGET|DROP|LEVEL|ID|IDS|MASK|MIX|LABEL)"
    r"|(PAD|BOS|EOS|UNK|SEP|CLS|MASK|START|STOP|END|SPECIAL|IMAGE)_TOKENS?"
    r"|(MAX|MIN|NUM|N|TOTAL|NEW|BATCH|SEQ|CONTEXT|TRAIN|VAL|EVAL)_(NEW_|OUTPUT_|INPUT_|TARGET_|SOURCE_)?TOKENS?|AUTHOR(?!IZ)"
    r"|KEYS?_(DIM|SIZE|PADDING|LEN|LENGTH|VALUES?|POINTS?|FRAMES?|HEADS?|NAMES?|PROJ|BIAS|MASK)"
    r"|(NUM|SORT|STATE|DICT|SKIP|TARGET|INPUT|OUTPUT|IMAGE|LABEL|TEXT|DATA|BATCH|QUERY|CACHE)_KEYS?(?![A-Z0-9])",
    re.IGNORECASE,
)
"""what a model or a mapping calls a token or a key, and who wrote something, is no secret"""
_VALUE = re.compile(
    r"(-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\."  # JSON web token
    r"|\b(ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{15,}"
    r"|\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{16,}|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{30,}|\bdop_v1_[a-f0-9]{20,}|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[A-Za-z0-9_-]{30,}"
    r"|\bwandb_v1_[A-Za-z0-9_-]{20,}|\bBearer\s+[A-Za-z0-9._~+/=-]{12,}"
    r"|(?<=Authorization: )Basic\s+[A-Za-z0-9+/=]{8,})"
)
_MARKS = (
    "-----BEGIN", "eyJ", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_", "sk-", "xox", "AKIA", "ASIA",
    "AIza", "dop_v1_", "npm_", "pypi-", "wandb_v1_", "Bearer", "Authorization",
)  # fmt: skip
"""a text without any of these holds nothing that ``_VALUE`` finds; this test is 50 times as fast"""
_WORDS = (
    "secret", "token", "passw", "passphrase", "passcode", "credential", "private", "key", "auth", "cookie", "session", "bearer",
    "signature", "webhook", "connection", "pwd", "pat", "dsn", "sas", "pass",
)  # fmt: skip
_URL_LINE = re.compile(r"^.*://.*$", re.M)
_URL_PASSWORD = re.compile(r"(?P<head>[A-Za-z][A-Za-z0-9+.-]{0,15}://[^\s/:@]{0,200}:)(?P<password>[^\s/]{1,400})(?=@)")
_URL_USERINFO = re.compile(r"(?P<head>[A-Za-z][A-Za-z0-9+.-]{0,15}://)(?P<token>[^\s/:@]{16,400})(?=@)")
_URL_QUERY = re.compile(
    r"(?P<head>[?&;](?:[A-Za-z0-9_.-]{0,40}(?:token|key|secret|password|passwd|sig|signature|credential|auth)[A-Za-z0-9_.-]{0,40})=)(?P<v>[^&;\s#]+)",
    re.IGNORECASE,
)
_FLAG = re.compile(
    r"^--?[A-Za-z0-9_.-]*("
    r"(token|secret|passw|passphrase|api[-_]?key|access[-_]?key|credential|private[-_]?key|bearer|cookie)[A-Za-z0-9_.-]*"
    r"|(?<![A-Za-z0-9])(pass|pwd|auth|pat|sas|dsn))$",
    re.I,
)
_ASSIGNED = re.compile(
    r"""(?P<head>(?<![\w.-])(?P<name>[A-Za-z_][\w.-]{0,80})["']?\]?[ \t]{0,20}(?::\s?[A-Za-z_][\w\[\]. |]{0,60})?"""
    r"""[=:]\s{0,20}[rbfRBF]{0,2}(?P<quote>["']))(?P<value>[^"'\n\\]{6,})(?P=quote)"""
)
_SHELL_ASSIGNED = re.compile(r"""(?<![\w?&.-])(?P<head>(?P<name>[A-Za-z_][\w.-]{0,80})=["']?)(?P<value>[^\s"';]+)""")
_SHELL_FLAG = re.compile(r"""(?<!\S)(?P<head>(?P<name>--?[\w.-]+)(?:=|\s+)["']?)(?P<value>[^\s"';-][^\s"';]*)""")
_CURL_USER = re.compile(r"""(?<!\S)(?P<head>(?:-u|--user)[ =]?["']?[^\s:"']{1,100}:)(?P<password>[^\s"'<]+)""")
_MASK = re.compile(r"<redacted [0-9a-f]{8}>")
"""what ``mask`` gives: not masked again"""
_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S)


def mask(value: str, key: bytes) -> str:
    """The replacement for a secret: ``<redacted 1f3a9c04>``; equal secrets give equal words under one ``key``."""
    return f"<redacted {hashlib.blake2b(value.encode('utf-8', 'surrogateescape'), key=key[:64], digest_size=4).hexdigest()}>"


def is_mask(value: object) -> bool:
    """Whether a value is nothing but what ``mask`` gives."""
    return isinstance(value, str) and _MASK.fullmatch(value) is not None


def mask_device(identifier: str, key: bytes) -> str:
    """A device's identifier as it may be written down: equal for the same card on one machine, meaningless elsewhere."""
    plain = identifier.removeprefix("GPU-").lower()
    return hashlib.blake2b(plain.encode(), key=key[:64], digest_size=6).hexdigest()


def is_secret_name(name: str) -> bool:
    """Whether a variable or configuration key of this name holds a secret."""
    name = name[:200].replace("-", "_")
    if name.upper() in _NOT_SECRET or _NAME.search(name) is None:
        return False
    rest = _ABOUT_TEXT.sub("", name)
    return rest == name or _NAME.search(rest) is not None


def redact_text(text: str, key: bytes) -> str:
    """``text`` with everything that has the form of a secret masked: tokens, private keys, passwords in URLs."""
    if "-----BEGIN" in text and "PRIVATE KEY" in text:
        text = _BLOCK.sub(lambda m: mask(m.group(0), key), text)
    if any(mark in text for mark in _MARKS):
        text = _VALUE.sub(lambda m: mask(m.group(0), key), text)
    if "://" in text:
        text = _URL_LINE.sub(lambda m: _redact_urls(m.group(0), key), text)
    if "=" in text:
        text = _URL_QUERY.sub(lambda m: m["head"] + mask(m["v"], key), text)
    return text


def _redact_urls(line: str, key: bytes) -> str:
    line = _URL_PASSWORD.sub(lambda m: m["head"] + mask(m["password"], key), line)
    return _URL_USERINFO.sub(lambda m: m["head"] + mask(m["token"], key), line)


def redact_value(name: str, value: str, key: bytes) -> str:
    """The value of variable ``name`` as it may be written: masked whole by name, in part by form."""
    if not value:
        return value
    if is_secret_name(name):
        return mask(value, key)
    return redact_text(value, key)


def redact_source(text: str, key: bytes) -> str:
    """Source code or configuration with secrets masked: by form, and quoted literals assigned to a name of a secret."""

    def assigned(m: re.Match[str]) -> str:
        if not is_secret_name(m["name"].rsplit(".", 1)[-1]) or m["value"].startswith("<redacted "):
            return m.group(0)
        return m["head"] + mask(m["value"], key) + m["quote"]

    lines = redact_text(text, key).split("\n")
    for n, line in enumerate(lines):
        if "=" in line or ":" in line:
            lower = line.lower()
            if any(word in lower for word in _WORDS):
                lines[n] = _ASSIGNED.sub(assigned, line)
    return "\n".join(lines)


def redact_argv(argv: list[str], key: bytes) -> list[str]:
    """A command line with the values of ``--token X``, ``--token=X`` and ``NAME_TOKEN=X`` masked."""
    out: list[str] = []
    hide_next = False
    for word in argv:
        if hide_next and not word.startswith("-"):
            out.append(word if _MASK.fullmatch(word) else mask(word, key))
            hide_next = False
            continue
        hide_next = False
        name, eq, value = word.partition("=")
        if any(c.isspace() for c in word):  # a script in one word: sh -c "..."
            out.append(_redact_shell(word, key))
            continue
        if eq and value and (_is_secret_flag(name) or is_secret_name(name.lstrip("-+~").rsplit(".", 1)[-1])):
            out.append(name + "=" + mask(value, key))
            continue
        hide_next = not eq and _is_secret_flag(word)
        out.append(redact_text(word, key))
    return out


def _is_secret_flag(word: str) -> bool:
    return len(word) <= 200 and _FLAG.match(word) is not None and not _ABOUT_TEXT.search(word.rsplit(".", 1)[-1].replace("-", "_"))


def _redact_shell(script: str, key: bytes) -> str:
    def hidden(m: re.Match[str]) -> str:
        # a mask has a blank in it: of one that stands here already only the first word was matched
        return m.group(0) if _MASK.match(m.string, m.start("value")) else m["head"] + mask(m["value"], key)

    def assigned(m: re.Match[str]) -> str:
        return hidden(m) if is_secret_name(m["name"].rsplit(".", 1)[-1]) else m.group(0)

    def flag(m: re.Match[str]) -> str:
        named = "=" in m["head"] and is_secret_name(m["name"].lstrip("-").rsplit(".", 1)[-1])
        return hidden(m) if named or _is_secret_flag(m["name"]) else m.group(0)

    if "curl" in script:
        script = _CURL_USER.sub(lambda m: m["head"] + mask(m["password"], key), script)
    return _SHELL_ASSIGNED.sub(assigned, _SHELL_FLAG.sub(flag, redact_source(script, key)))


def state_home() -> str:
    """The folder of what this user's reprodebug keeps from run to run."""
    root = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(root, "reprodebug")


def machine_key() -> bytes:
    """The per-user key of the masks, made on first use under the user's state directory (mode 0600).

    Falls back to a constant where no file can be written: masks then stay stable, only guessable by trial.
    """
    path = os.path.join(state_home(), "mask.key")
    try:
        with open(path, "rb") as f:
            key = f.read(32)
        if len(key) == 32:
            return key
    except OSError:
        pass
    key = os.urandom(32)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as f:
            f.write(key)
        return key
    except FileExistsError:
        try:
            with open(path, "rb") as f:
                return f.read(32) or b"reprodebug"
        except OSError:
            return b"reprodebug"
    except OSError:
        return b"reprodebug"
