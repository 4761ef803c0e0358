"""Hides passwords, tokens and keys in what is recorded or printed."""

import os
import re
from pathlib import Path
from typing import Any

_SHOWN = "***"
_WORD = r"(?:pass|pwd|token|secret|credential|signature|api_?key|access_?key|account_?key)"
_VALUE = r"(?:\{[^}]*\}|'[^']*'|\"[^\"]*\"|[^&;\s'\",}\]]*)"
_KINDS = (
    # Between a user and a host: user:PASSWORD@host, and TOKEN@host of a web server.
    (re.compile(r"(://[^\s/:@]*):\S*@"), rf"\1:{_SHOWN}@"),
    (re.compile(r"(https?://)[^\s/:@?#]+@", re.I), rf"\1{_SHOWN}@"),
    # In a query and in an ODBC string, plain or as part of an address.
    (
        re.compile(
            rf"((?:[?&;]|%3B|%26)\s*[\w.\-]*{_WORD}[\w.\-]*\s*(?:=|%3D))"
            r"(?:\{[^}]*\}|'[^']*'|(?:(?!%3B|%26)[^&;\s'\"])*)",
            re.I,
        ),
        rf"\1{_SHOWN}",
    ),
    # KEY=value of libpq and of environments.
    (
        re.compile(
            rf"((?:^|(?<=[\s'\"{{,]))(?:\w*_)?(?:ssl)?{_WORD}(?:word|wd|phrase|s)?(?:_\w+)?\s*=\s*)"
            rf"{_VALUE}",
            re.I,
        ),
        rf"\1{_SHOWN}",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), _SHOWN),
)
_VARIABLE = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN(S|_|$)|CREDENTIAL|API_?KEY|_KEY$|_PASS$|_PWD$", re.I
)
_LEAST = 6  # characters of a secret: shorter ones occur in ordinary words


def without_passwords(value: Any) -> Any:
    """Return a text, or a list or dict with texts, with ``***`` in the place of secrets.

    Secrets are passwords, tokens and keys in addresses, queries and connection strings, and the
    values of environment variables that are named like secrets.
    """
    if isinstance(value, dict):
        return {key: without_passwords(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_passwords(entry) for entry in value]
    if isinstance(value, str):
        for secret in _of_environment():
            value = value.replace(secret, _SHOWN)
        for pattern, shown in _KINDS:
            value = pattern.sub(shown, value)
    return value


def _of_environment() -> list[str]:
    """Return the secrets in the environment, longest first: one may contain another."""
    secrets = {v for k, v in os.environ.items() if len(v) >= _LEAST and _VARIABLE.search(k)}
    return sorted(secrets, key=len, reverse=True)


def hide(folder: Path, pattern: str = "*.yaml") -> None:
    """Replace the secrets in the files of a folder by ``***``."""
    for path in folder.glob(pattern):
        text = path.read_text(encoding="utf-8")
        if (shown := without_passwords(text)) != text:
            path.write_text(shown, encoding="utf-8")
