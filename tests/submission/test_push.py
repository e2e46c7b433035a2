"""Handing in, with clients that say what the real one says in each case."""

import json
import sys
from pathlib import Path

import pytest

from blend_pl.errors import BlendError, ConfigError
from blend_pl.submission.push import REDACTED, TOKEN_VARIABLE, PushError, push_to_evalai

SECRET = "eyJhbGciOiJIUzI1NiJ9.secret-of-the-user.0123456789abcdef"

PYTHON = sys.executable

FAKE = """#!{python} -S
import json, os, pathlib, stat, sys
home = pathlib.Path(os.environ["HOME"])
file = home / ".evalai" / "token.json"
token = json.loads(file.read_text())["token"]
seen = dict(
    arguments=sys.argv[1:], token=token, mode=stat.S_IMODE(file.stat().st_mode), home=str(home),
    variables=dict(os.environ), asked=sys.stdin.read(),
)
pathlib.Path({record!r}).write_text(json.dumps(seen))
print({says!r}.replace("TOKEN", token))
sys.exit({code})
"""


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    path = tmp_path / "submission.h5"
    path.write_bytes(b"rates")
    return path


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """No client, no installer, a home without a token, and a token in a variable."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere" / "python"))
    for name in ("bin", "home"):
        (tmp_path / name).mkdir()
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home"), TOKEN_VARIABLE: SECRET}


def install(environment: dict[str, str], says: str, code: int = 0, name: str = "evalai") -> Path:
    """Puts a client on the PATH; where it writes down what it saw."""
    record = Path(environment["HOME"]) / "seen.json"
    client = Path(environment["PATH"]) / name
    client.write_text(FAKE.format(python=PYTHON, record=str(record), says=says, code=code))
    client.chmod(0o755)
    return record


def test_a_submission_is_taken(submission: Path, environment: dict[str, str]) -> None:
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
    assert seen["asked"] == "n\nn\n"


def test_test_trials_go_to_their_own_phase(submission: Path, environment: dict[str, str]) -> None:
    record = install(environment, "successfully submitted")
    push_to_evalai(submission, "test", environment)
    assert json.loads(record.read_text())["arguments"][3] == "2540"


def test_the_token_reaches_the_client_in_a_private_file_that_goes_away(
    submission: Path, environment: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    record = install(environment, "token TOKEN, Authorization: Bearer TOKEN: successfully submitted")
    said = push_to_evalai(submission, "val", environment)
    seen = json.loads(record.read_text())
    assert (seen["token"], seen["mode"]) == (SECRET, 0o600)
    assert SECRET not in " ".join(seen["arguments"])
    assert SECRET not in " ".join(seen["variables"].values())
    assert not Path(seen["home"]).exists()
    assert REDACTED in said
    assert SECRET not in said
    assert SECRET not in "".join(capfd.readouterr())
    assert not (Path(environment["HOME"]) / ".evalai").exists()


def test_the_clients_own_token_is_used(submission: Path, environment: dict[str, str]) -> None:
    del environment[TOKEN_VARIABLE]
    config = Path(environment["HOME"]) / ".evalai"
    config.mkdir()
    (config / "token.json").write_text(json.dumps({"token": SECRET}))
    record = install(environment, "TOKEN successfully submitted")
    assert push_to_evalai(submission, "val", environment) == f"{REDACTED} successfully submitted"
    assert json.loads(record.read_text())["token"] == SECRET


@pytest.mark.parametrize("content", [None, "{}", '{"token"', "[]"])
def test_without_a_token_nothing_is_started(submission: Path, environment: dict[str, str], content: str | None) -> None:
    del environment[TOKEN_VARIABLE]
    if content is not None:
        (Path(environment["HOME"]) / ".evalai").mkdir()
        (Path(environment["HOME"]) / ".evalai" / "token.json").write_text(content)
    record = install(environment, "successfully submitted")
    with pytest.raises(ConfigError, match=r"token.*https://eval\.ai/web/profile.*EVALAI_TOKEN$"):
        push_to_evalai(submission, "val", environment)
    assert not record.exists()


def test_without_a_client(submission: Path, environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"there is no EvalAI client; install uv"):
        push_to_evalai(submission, "val", environment)


def test_the_installer_runs_the_client_in_an_environment_of_its_own(
    submission: Path, environment: dict[str, str]
) -> None:
    record = install(environment, "successfully submitted", name="uv")
    push_to_evalai(submission, "val", environment)
    seen = json.loads(record.read_text())
    assert seen["arguments"][:8] == ["tool", "run", "--quiet", "--python", "3.9", "--from", "evalai==1.3.18", "evalai"]
    assert seen["arguments"][8:10] == ["challenge", "1256"]
    assert seen["variables"]["XDG_CACHE_HOME"] == environment["HOME"] + "/.cache"


CLOSED = r"no longer accepts submissions .* 1256; score the file with --score"
REFUSED = r"does not accept the token; get a new one"

ANSWERS = {
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
    "no connection": ("Could not establish a connection to EvalAI. Please check the Host URL.", "cannot be reached"),
    "no package index": ("error: Failed to fetch: `https://pypi.org/simple/evalai/`", "cannot be reached"),
    "something new": (
        "Traceback\n  line 1\nKeyError: 'error' with TOKEN\n\n",
        r"client failed: KeyError: 'error' with \*",
    ),
    "silence": ("", "client failed: it says nothing"),
}


@pytest.mark.parametrize("case", ANSWERS)
@pytest.mark.parametrize("code", [1, 0])
def test_what_the_client_says_becomes_one_line(
    submission: Path, environment: dict[str, str], case: str, code: int
) -> None:
    says, message = ANSWERS[case]
    install(environment, says, code)
    with pytest.raises(PushError, match=message) as raised:
        push_to_evalai(submission, "val", environment)
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_client_that_cannot_start(submission: Path, environment: dict[str, str]) -> None:
    client = Path(environment["PATH"]) / "evalai"
    client.write_text("#!/nowhere/python\n")
    client.chmod(0o755)
    with pytest.raises(BlendError, match=r"cannot start .*evalai"):
        push_to_evalai(submission, "val", environment)
