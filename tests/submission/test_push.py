"""Upload with fake EvalAI clients that print the messages of the real one."""

import json
import sys
from pathlib import Path

import pytest

from blend_pl.errors import BlendError, ConfigError
from blend_pl.submission.push import REDACTED, TOKEN_VARIABLE, PushError, push_to_evalai

SECRET = "eyJhbGciOiJIUzI1NiJ9.secret-of-the-user.0123456789abcdef"

PYTHON = sys.executable

FAKE_CLIENT = """#!{python} -S
import json, os, pathlib, stat, sys
home = pathlib.Path(os.environ["HOME"])
file = home / ".evalai" / "token.json"
token = json.loads(file.read_text())["token"]
record = dict(
    arguments=sys.argv[1:], token=token, mode=stat.S_IMODE(file.stat().st_mode), home=str(home),
    variables=dict(os.environ), stdin=sys.stdin.read(),
)
pathlib.Path({record!r}).write_text(json.dumps(record))
print({output!r}.replace("TOKEN", token))
sys.exit({code})
"""


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    path = tmp_path / "submission.h5"
    path.write_bytes(b"rates")
    return path


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Environment without client, installer and token file, with a token in a variable."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere" / "python"))
    for name in ("bin", "home"):
        (tmp_path / name).mkdir()
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home"), TOKEN_VARIABLE: SECRET}


def install(environment: dict[str, str], output: str, code: int = 0, name: str = "evalai") -> Path:
    """Installs a fake client on the PATH and returns the file with its recorded input."""
    record = Path(environment["HOME"]) / "seen.json"
    client = Path(environment["PATH"]) / name
    client.write_text(FAKE_CLIENT.format(python=PYTHON, record=str(record), output=output, code=code))
    client.chmod(0o755)
    return record


def test_push_returns_success_message(submission: Path, environment: dict[str, str]) -> None:
    record = install(
        environment,
        "Uploading the file...\n\x1b[32mYour submission s.h5 with the id 7 is successfully submitted.\x1b[0m",
    )
    assert (
        push_to_evalai(submission, "val", environment)
        == "Your submission s.h5 with the id 7 is successfully submitted."
    )
    seen = json.loads(record.read_text())
    arguments = ["challenge", "1256", "phase", "2539", "submit", "--file", str(submission), "--large", "--private"]
    assert seen["arguments"] == arguments
    assert seen["stdin"] == "n\nn\n"


def test_phase_test_uses_its_phase_id(submission: Path, environment: dict[str, str]) -> None:
    record = install(environment, "successfully submitted")
    push_to_evalai(submission, "test", environment)
    assert json.loads(record.read_text())["arguments"][3] == "2540"


def test_token_is_passed_in_private_temporary_file(
    submission: Path, environment: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    record = install(environment, "token TOKEN, Authorization: Bearer TOKEN: successfully submitted")
    message = push_to_evalai(submission, "val", environment)
    seen = json.loads(record.read_text())
    assert (seen["token"], seen["mode"]) == (SECRET, 0o600)
    assert SECRET not in " ".join(seen["arguments"])
    assert SECRET not in " ".join(seen["variables"].values())
    assert not Path(seen["home"]).exists()
    assert REDACTED in message
    assert SECRET not in message
    assert SECRET not in "".join(capfd.readouterr())
    assert not (Path(environment["HOME"]) / ".evalai").exists()


def test_token_file_of_client_is_used(submission: Path, environment: dict[str, str]) -> None:
    del environment[TOKEN_VARIABLE]
    config = Path(environment["HOME"]) / ".evalai"
    config.mkdir()
    (config / "token.json").write_text(json.dumps({"token": SECRET}))
    record = install(environment, "TOKEN successfully submitted")
    assert push_to_evalai(submission, "val", environment) == f"{REDACTED} successfully submitted"
    assert json.loads(record.read_text())["token"] == SECRET


@pytest.mark.parametrize("content", [None, "{}", '{"token"', "[]"])
def test_missing_token_raises_without_starting_client(
    submission: Path, environment: dict[str, str], content: str | None
) -> None:
    del environment[TOKEN_VARIABLE]
    if content is not None:
        (Path(environment["HOME"]) / ".evalai").mkdir()
        (Path(environment["HOME"]) / ".evalai" / "token.json").write_text(content)
    record = install(environment, "successfully submitted")
    with pytest.raises(
        ConfigError,
        match=r"token.*https://eval\.ai/web/profile.*EVALAI_TOKEN$",
    ):
        push_to_evalai(submission, "val", environment)
    assert not record.exists()


def test_missing_client_raises(submission: Path, environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"no EvalAI client found; install uv"):
        push_to_evalai(submission, "val", environment)


def test_uv_runs_client_in_isolated_environment(submission: Path, environment: dict[str, str]) -> None:
    record = install(environment, "successfully submitted", name="uv")
    push_to_evalai(submission, "val", environment)
    seen = json.loads(record.read_text())
    assert seen["arguments"][:8] == ["tool", "run", "--quiet", "--python", "3.9", "--from", "evalai==1.3.18", "evalai"]
    assert seen["arguments"][8:10] == ["challenge", "1256"]
    assert seen["variables"]["XDG_CACHE_HOME"] == environment["HOME"] + "/.cache"


CLOSED = r"no longer accepts submissions .* 1256; score the file locally with --score"
REFUSED = r"does not accept the token; get a new one"

CLIENT_OUTPUTS = {
    "challenge is over": ("Error: Sorry, cannot accept submissions since challenge is not active", CLOSED),
    "phase is over": (
        "There was an error while making the submission: Sorry, cannot accept submissions since challenge phase is not "
        "active",
        CLOSED,
    ),
    "no such phase": ("Error: {'error': 'Challenge phase 2539 does not exist'}", CLOSED),
    "token is wrong": (
        "Error: {'detail': 'Given token not valid for any token type', 'code': 'token_not_valid'}\n\n"
        "Use `evalai challenges` to fetch the active challenges.\n\nUse `evalai challenge CHALLENGE phases` to fetch "
        "the active phases.",
        REFUSED,
    ),
    "token is invalid": ("The authentication token you are using isn't valid. Please generate it again.", REFUSED),
    "token is old": ("Sorry, the token has expired. Please generate it again.", REFUSED),
    "no connection": ("Could not establish a connection to EvalAI. Please check the Host URL.", "cannot reach EvalAI"),
    "no package index": ("error: Failed to fetch: `https://index.example/evalai/`", "cannot reach EvalAI"),
    "unknown error": (
        "Traceback\n  line 1\nKeyError: 'error' with TOKEN\n\n",
        r"client failed: KeyError: 'error' with \*",
    ),
    "no output": ("", "client failed: no output"),
}


@pytest.mark.parametrize("case", CLIENT_OUTPUTS)
@pytest.mark.parametrize("code", [1, 0])
def test_client_error_becomes_one_line(submission: Path, environment: dict[str, str], case: str, code: int) -> None:
    output, message = CLIENT_OUTPUTS[case]
    install(environment, output, code)
    with pytest.raises(PushError, match=message) as raised:
        push_to_evalai(submission, "val", environment)
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)


def test_client_that_cannot_start_raises(submission: Path, environment: dict[str, str]) -> None:
    client = Path(environment["PATH"]) / "evalai"
    client.write_text("#!/nowhere/python\n")
    client.chmod(0o755)
    with pytest.raises(BlendError, match=r"cannot start .*evalai"):
        push_to_evalai(submission, "val", environment)
