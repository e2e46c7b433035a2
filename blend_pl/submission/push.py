"""Upload to EvalAI with its CLI in an isolated environment, because its pins conflict with ours."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from blend_pl.errors import BlendError, ConfigError

CHALLENGE_ID = 1256
PHASE_IDS = {"val": 2539, "test": 2540}

CLIENT_REQUIREMENT = "evalai==1.3.18"
CLIENT_PYTHON = "3.9"
"""Newest Python version for which the pinned dependencies of the client exist."""

TOKEN_VARIABLE = "EVALAI_TOKEN"
"""Environment variable with the token; if unset, the token file of the client is used."""

REDACTED = "***"

PROMPT_REPLIES = "n\nn\n"
"""Answers to the prompts for a method description and metadata, which can be added on the web page."""

PROFILE_URL = "https://eval.ai/web/profile"

ERROR_MESSAGES = (
    (
        r"cannot accept submissions|not active|challenge (phase )?.{0,40}does not exist",
        f"EvalAI no longer accepts submissions to this phase of challenge {CHALLENGE_ID}; score the file locally with "
        "--score, on test trials with --test_targets download",
    ),
    (
        r"token.{0,40}(not valid|invalid|expired)|isn't valid|invalid token|unable to fetch auth token"
        r"|credentials were not provided|401 client error",
        f"EvalAI does not accept the token; get a new one at {PROFILE_URL} and set {TOKEN_VARIABLE} or run "
        "`evalai set_token`",
    ),
    (
        r"could not establish a connection|connection ?error|failed to (fetch|download)|error sending request",
        "cannot reach EvalAI or the package index of its client; check the network and try again",
    ),
)
"""Patterns in the output of the client, and the error message for each."""


class PushError(BlendError):
    """EvalAI did not accept a submission."""


def push_to_evalai(path: Path, phase: str, environment: Mapping[str, str]) -> str:
    """Uploads a submission to EvalAI as private.

    The token is passed to the client in a file that only the user can read, never as an argument, and is removed from
    its output.

    Args:
        path: checked submission file.
        phase: val or test.
        environment: environment variables; PATH, HOME and EVALAI_TOKEN are used.

    Returns:
        Success message of the client.

    Raises:
        ConfigError: the client or the token is missing.
        PushError: EvalAI did not accept the file.
    """
    client = _client_command(environment)
    token = environment.get(TOKEN_VARIABLE) or _stored_token(environment)
    if not token:
        raise ConfigError(
            f"no EvalAI token found; get one at {PROFILE_URL} and set the environment variable {TOKEN_VARIABLE}"
        )
    command = [*client, "challenge", str(CHALLENGE_ID), "phase", str(PHASE_IDS[phase]), "submit"]
    command += ["--file", str(path.resolve()), "--large", "--private"]
    with _token_environment(token, environment) as variables:
        try:
            completed = subprocess.run(
                command,
                env=variables,
                input=PROMPT_REPLIES,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        except OSError as error:
            raise ConfigError(f"cannot start {client[0]}: {error.strerror}; reinstall {CLIENT_REQUIREMENT}") from error
    client_output = _redact(completed.stdout, token)
    success = re.search(r"[^\n]*successfully submitted[^\n]*", client_output)
    if completed.returncode == 0 and success:
        return success[0].strip()
    for pattern, message in ERROR_MESSAGES:
        if re.search(pattern, client_output, flags=re.IGNORECASE | re.DOTALL):
            raise PushError(message)
    last_line = [line.strip() for line in client_output.splitlines() if line.strip()][-1:]
    raise PushError(f"the EvalAI client failed: {' '.join(last_line) or 'no output'}; {path} is unchanged")


def _client_command(environment: Mapping[str, str]) -> list[str]:
    """Returns the command of the installed client, or of uv running it in an isolated environment."""
    path = environment.get("PATH", "")
    if installed := shutil.which("evalai", path=path):
        return [installed]
    if uv := shutil.which("uv", path=os.pathsep.join([path, str(Path(sys.executable).parent)])):
        return [uv, "tool", "run", "--quiet", "--python", CLIENT_PYTHON, "--from", CLIENT_REQUIREMENT, "evalai"]
    raise ConfigError(
        f"no EvalAI client found; install uv, which runs it in an isolated environment, or {CLIENT_REQUIREMENT}"
    )


def _stored_token(environment: Mapping[str, str]) -> str | None:
    """Reads the token file of the client."""
    try:
        return str(json.loads((_home_dir(environment) / ".evalai" / "token.json").read_text())["token"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        # The text of the original error may contain the token.
        raise ConfigError(
            f"cannot read ~/.evalai/token.json; put the token of {PROFILE_URL} into {TOKEN_VARIABLE}"
        ) from None


def _home_dir(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or Path.home())


@contextmanager
def _token_environment(token: str, environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yields environment variables with a temporary home folder that holds the token file."""
    home_dir = _home_dir(environment)
    with TemporaryDirectory(prefix="blend-evalai-") as folder:
        config_dir = Path(folder) / ".evalai"
        config_dir.mkdir(mode=0o700)
        with os.fdopen(os.open(config_dir / "token.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"token": token}, file)
        # uv keeps its cache in the real home folder.
        cache_variables = {
            "XDG_CACHE_HOME": str(home_dir / ".cache"),
            "XDG_DATA_HOME": str(home_dir / ".local" / "share"),
        }
        inherited_variables = {name: value for name, value in environment.items() if name != TOKEN_VARIABLE}
        yield {
            **cache_variables,
            **inherited_variables,
            "HOME": folder,
            "USERPROFILE": folder,
            "PYTHONUTF8": "1",
            "LC_ALL": "C.UTF-8",
        }


def _redact(text: str, token: str) -> str:
    """Removes the token, other credentials and ANSI colors from a text."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text).replace(token, REDACTED)
    return re.sub(r"\b(Bearer|Token) [\w.~+/=-]{20,}", rf"\1 {REDACTED}", text)
