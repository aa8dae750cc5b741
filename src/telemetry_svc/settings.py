"""Settings from the environment (prefix `TELEMETRY_`) or a `.env` file; contract.md, Command line.

A wrong one stops the program with one line that names it. Secrets may come from a file: `TELEMETRY_DATABASE_URL_FILE`
stands for `TELEMETRY_DATABASE_URL`.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, FilePath, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from telemetry_svc.embedded import default_data_dir

PREFIX = "TELEMETRY_"
_SECRETS = ("DATABASE_URL", "KAFKA_SASL_PASSWORD", "PERSONAL_DATA_KEYS")


class SettingsError(ValueError):
    """A setting is wrong. The text is one line that names it."""


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class Settings(BaseSettings):
    """Every setting of every role. `None` for database or broker: an embedded one, or that of a running `up`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", env_ignore_empty=True)

    database_url: SecretStr | None = None
    kafka_bootstrap: str | None = None
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
    policy_dir: Path | None = None
    personal_data_keys: SecretStr | None = None
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"
    log_format: Literal["json", "console"] = "json"
    grace_s: Annotated[float, Field(gt=0, le=300)] = 25.0


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process. Raises `SettingsError`."""
    try:
        return Settings(**(_secret_files() | overrides))
    except ValidationError as error:
        raise SettingsError("; ".join(_line(fault) for fault in error.errors())) from None


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


def _line(fault: Any) -> str:
    name = PREFIX + str(fault["loc"][0]).upper() if fault["loc"] else PREFIX.rstrip("_")
    return f"{name}: {fault['msg'].splitlines()[0]}"
