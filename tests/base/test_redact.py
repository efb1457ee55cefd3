"""Secrets by name and by form are masked, what only sounds like one is not."""

import time

import pytest

from reprodebug._base import redact

KEY = b"k" * 32
# spelled in two parts, so that no scanner takes this file for a leak
BY_FORM = {
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "github": "ghp_" + "a1B2" * 9,
    "github fine-grained": "github_pat_" + "a1B2" * 9,
    "gitlab": "glpat-" + "a1B2" * 5,
    "hugging face": "hf_" + "a1B2" * 8,
    "weights and biases": "wandb_v1_" + "a1B2" * 8,
    "openai": "sk-" + "a1B2" * 8,
    "slack": "xoxb-" + "123456789012",
    "google": "AIza" + "a1B2" * 9,
    "json web token": "eyJ" + "hbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + "abcdefgh",
    "private key": "-----BEGIN RSA PRIVATE " + "KEY-----\nMIIE\n-----END RSA PRIVATE " + "KEY-----",
}


@pytest.mark.parametrize("kind", BY_FORM)
@pytest.mark.parametrize("around", ["{}", "export X={} && run", "url?x={}&y=1", 'a = "{}"  # note'])
def test_by_form(kind: str, around: str) -> None:
    secret = BY_FORM[kind]
    for text in (redact.redact_text(around.format(secret), KEY), redact.redact_source(around.format(secret), KEY)):
        assert secret not in text
        assert "<redacted " in text
    assert secret not in " ".join(redact.redact_argv(["run", around.format(secret)], KEY))


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("https://me:hunter2@host/path", "hunter2"),
        ("https://me:p@ss@host/path", "p@ss"),
        ("redis://:hunter2@host:6379/0", "hunter2"),
        ("https://abcdefghijklmnopqrst@github.com/x", "abcdefghijklmnopqrst"),
        ("https://host/x?access_token=hunter2&y=1", "hunter2"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA=="),
    ],
)
def test_inside_urls(text: str, secret: str) -> None:
    shown = redact.redact_text(text, KEY)
    assert secret not in shown
    assert ("host" in shown) == ("host" in text)


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "GITHUB_PAT", "MY_AUTH", "SENTRY_DSN", "KEY"]
)
def test_secret_names(name: str) -> None:
    assert redact.is_secret_name(name)
    assert "hunter2" not in redact.redact_value(name, "hunter2", KEY)


@pytest.mark.parametrize(
    "name",
    [
        "TOKENIZERS_PARALLELISM",
        "max_tokens",
        "max_new_tokens",
        "pad_token_id",
        "tokenizer.name",
        "key_dim",
        "sort_keys",
        "GIT_AUTHOR_NAME",
        "SSH_AUTH_SOCK",
        "PATH",
        "PWD",
        "OMP_NUM_THREADS",
        "tokens_per_batch",
    ],
)
def test_names_of_models_and_mappings_are_no_secrets(name: str) -> None:
    assert redact.redact_value(name, "value", KEY) == "value"


@pytest.mark.parametrize(
    "argv",
    [
        ["--token", "hunter2"],
        ["--hf-token=hunter2"],
        ["--password", "hunter2"],
        ["--wandb.api_key=hunter2"],
        ["+login.token=hunter2"],
        ["HF_TOKEN=hunter2"],
        ["--auth", "hunter2"],
        ["sh", "-c", "cd x; HF_TOKEN=hunter2 python t.py"],
        ["sh", "-c", "t.py --token hunter2 -v"],
    ],
)
def test_command_lines(argv: list[str]) -> None:
    shown = redact.redact_argv(["run", *argv, "--lr", "0.1"], KEY)
    assert "hunter2" not in " ".join(shown)
    assert shown[-2:] == ["--lr", "0.1"]


def test_ordinary_command_lines_stay() -> None:
    argv = [
        "python",
        "t.py",
        "--tokenizer",
        "bert",
        "--max-tokens",
        "512",
        "--lr",
        "0.1",
        "data.path=/x",
        "--author",
        "me",
        "--path",
        "/x",
    ]
    assert redact.redact_argv(argv, KEY) == argv


def test_source_assignments() -> None:
    text = 'password = "hunter22"\ncfg["api_key"] = \'hunter22\'\nTOKEN: str = "hunter22"\n'
    text += 'api_key: "hunter22"\npad_token = "<pad_it>"\n'
    shown = redact.redact_source(text, KEY)
    assert "hunter22" not in shown
    assert "<pad_it>" in shown
    assert shown.count("\n") == text.count("\n")


def test_equal_secrets_give_equal_masks() -> None:
    assert redact.mask("a", KEY) == redact.mask("a", KEY) != redact.mask("b", KEY)
    assert redact.mask("a", KEY) != redact.mask("a", b"other")


def test_long_texts_take_no_quadratic_time() -> None:
    started = time.monotonic()
    for piece in ("a", "a:", "x=", "http://", "token", "--token ", "eyJ.", "hf_"):
        redact.redact_source(piece * 20_000, KEY)
        redact.redact_argv([piece * 20_000, piece * 20_000 + " "], KEY)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("command", ["train.py --api-key sk-abcdefghijklmnopqrst", "TOKEN=abcdefgh train.py", "x --token='abcdefgh' y"])
def test_a_mask_is_not_masked_again(command: str) -> None:
    once = redact.redact_argv([redact.redact_value("args", command, KEY)], KEY)[0]
    assert once.count("<redacted ") == 1 and "abcdefgh" not in once
    assert redact.redact_argv([once], KEY) == [once]
    mask = redact.mask("abcdefgh", KEY)
    assert redact.is_mask(mask) and redact.redact_argv(["--token", mask], KEY)[1] == mask


def test_machine_key_is_made_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert redact.machine_key() == redact.machine_key()
    file = tmp_path / "reprodebug" / "mask.key"
    assert file.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    assert redact.machine_key() == b"reprodebug"
