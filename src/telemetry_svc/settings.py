"""Settings from the environment (prefix `TELEMETRY_`) or a `.env` file; contract.md, Command line.

A wrong one stops the program with one line that names it; an unknown one is told with the one that may be meant.
Secrets may come from a file: `TELEMETRY_DATABASE_URL_FILE` stands for `TELEMETRY_DATABASE_URL`.
"""

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    DirectoryPath,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

from telemetry_svc.embedded import default_data_dir
from telemetry_svc.wording import words_of

PREFIX = "TELEMETRY_"
ENV_FILE = ".env"
_SECRETS = ("DATABASE_URL", "KAFKA_SASL_PASSWORD", "PERSONAL_DATA_KEYS")
_OF_TESTS = "TEST_"
"""`TELEMETRY_TEST_…` are settings of the test suite."""
_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+)(:(?P<port>[0-9]{1,5}))?")


class SettingsError(ValueError):
    """A setting is wrong. The text is one line that names it."""


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _brokers(value: str) -> str:
    for part in value.split(","):
        broker = _BROKER.fullmatch(part.strip())
        if broker is None or not 0 < int(broker["port"] or 1) <= 65_535:
            raise ValueError("must be host:port, several separated by commas, an IPv6 address in brackets")
    return value


class Settings(BaseSettings):
    """Every setting of every role. `None` for database or broker: an embedded one, or that of a running `up`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=ENV_FILE, extra="ignore", env_ignore_empty=True)

    database_url: SecretStr | None = None
    kafka_bootstrap: Annotated[str, AfterValidator(_brokers)] | None = None
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(_upper)
    ] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_ca_file: FilePath | None = None
    kafka_ssl_cert_file: FilePath | None = None
    kafka_ssl_key_file: FilePath | None = None
    topic_replication: Annotated[int, Field(ge=1, le=9)] = 3
    data_dir: Path = Field(default_factory=default_data_dir)
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    policy_dir: DirectoryPath | None = None
    personal_data_keys: SecretStr | None = None
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"
    log_format: Literal["json", "console"] = "json"
    grace_s: Annotated[float, Field(gt=0, le=300)] = 25.0


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process. Raises `SettingsError`."""
    try:
        settings = Settings(**(_secret_files() | overrides))
    except ValidationError as error:
        raise SettingsError("; ".join(_line({**fault}) for fault in error.errors())) from None
    _refuse_half_a_login(settings)
    return settings


def unknown_settings() -> list[str]:
    """A line for each variable under our prefix that is no setting, with the setting whose name is nearest."""
    given = {name.upper() for name in (*os.environ, *DotEnvSettingsSource(Settings, env_file=ENV_FILE).env_vars)}
    ours = {name.removeprefix(PREFIX) for name in given if name.startswith(PREFIX)}
    known = {*map(str.upper, Settings.model_fields), *(f"{name}_FILE" for name in _SECRETS)}
    return [_unknown(name, known) for name in sorted(ours - known) if not name.startswith(_OF_TESTS)]


def _unknown(name: str, known: set[str]) -> str:
    nearest = get_close_matches(name, sorted(known), n=1)
    return f"{PREFIX}{name} is no setting" + "".join(f"; is {PREFIX}{one} meant?" for one in nearest)


def _refuse_half_a_login(settings: Settings) -> None:
    protocol, needed = settings.kafka_security_protocol, ("kafka_sasl_username", "kafka_sasl_password")
    missing = [PREFIX + name.upper() for name in needed if getattr(settings, name) is None]
    if protocol.startswith("SASL") and missing:
        message = f"{PREFIX}KAFKA_SECURITY_PROTOCOL is {protocol}, which needs {' and '.join(missing)}"
        raise SettingsError(message)


def _secret_files() -> dict[str, str]:
    found = {}
    for name in _SECRETS:
        path = os.environ.get(f"{PREFIX}{name}_FILE")
        if path:
            try:
                found[name.lower()] = Path(path).read_text().strip()
            except OSError as error:
                message = f"{PREFIX}{name}_FILE: {path} cannot be read ({error.strerror})"
                raise SettingsError(message) from None
    return found


def _line(fault: dict[str, Any]) -> str:
    name = PREFIX + str(fault["loc"][0]).upper() if fault["loc"] else PREFIX.rstrip("_")
    path = f"{fault['input']} " if fault["type"].startswith("path_") else ""
    return f"{name}: {path}{words_of(fault)}"
