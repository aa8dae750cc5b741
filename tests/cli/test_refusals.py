"""What the user can mend is one line that names it, and exit code 2; no trace, no secret, nothing started."""

from pathlib import Path
from typing import Any

import pytest
import typer

from telemetry_svc.cli import build
from telemetry_svc.privacy import new_keyring_text
from telemetry_svc.settings import PREFIX, load_settings
from tests.cli.programs import Cli, installed
from tests.packaging.project import settings_names

ELSEWHERE: dict[str, Any] = {
    "database_url": "postgresql://telemetry:hush@127.0.0.1:1/telemetry",
    "kafka_bootstrap": "127.0.0.1:1",
    "personal_data_keys": new_keyring_text(),
}
"""Addresses at which nobody answers."""


def _paths(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    below = [_paths(child, (*path, name)) for name, child in getattr(command, "commands", {}).items()]
    return [path, *(one for paths in below for one in paths)]


COMMANDS = _paths(typer.main.get_command(build()))


def test_the_commands_of_the_contract_are_there() -> None:
    wanted = "up,demo,gateway,ingest,notify,schedule,api,migrate,machines import,pings import,simulate,replay"
    wanted += ",keys create,keys list,keys revoke,policy check,policy show,policy diff"
    assert {tuple(one.split()) for one in wanted.split(",")} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help(cli: Cli, path: tuple[str, ...]) -> None:
    helped = cli(*path, "--help")
    assert (helped.code, helped.err) == (0, "")
    assert helped.out.startswith(" ".join(("Usage: telemetry-svc", *path)))
    assert len(helped.out.splitlines()) > 4


@pytest.mark.parametrize(
    "argv", [(), ("keys",), ("nothing",), ("keys", "create"), ("keys", "create", "--role", "king"), ("up", "--fast")]
)
def test_what_is_no_command_is_exit_code_2_with_a_usage(cli: Cli, argv: tuple[str, ...]) -> None:
    told = cli(*argv)
    assert told.code == 2
    assert "Usage: telemetry-svc" in told.out + told.err


NEED_AN_UP = [
    "gateway",
    "ingest",
    "notify",
    "schedule",
    "api",
    "migrate",
    "keys list",
    "keys create --role ops",
    "keys revoke 0123456789abcdef",
    "machines import FILE",
    "pings import FILE",
    "simulate",
    "replay --from 2026-11-20T00:00:00Z",
]


@pytest.mark.parametrize("command", NEED_AN_UP)
def test_without_settings_and_without_an_up_a_command_says_what_is_missing(cli: Cli, command: str) -> None:
    refusal = cli(*command.replace("FILE", __file__).split()).refusal
    assert refusal == (
        f"TELEMETRY_DATABASE_URL is not set and no `telemetry-svc up` runs in {cli.home / 'data'} (TELEMETRY_DATA_DIR)"
    )


def _told_apart(settings: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items() if ELSEWHERE.get(name) != value)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"http_port": "abc"}, "TELEMETRY_HTTP_PORT"),
        ({"http_port": 65_536}, "TELEMETRY_HTTP_PORT"),
        ({"kafka_security_protocol": "TLS"}, "TELEMETRY_KAFKA_SECURITY_PROTOCOL"),
        ({"kafka_sasl_mechanism": "GSSAPI"}, "TELEMETRY_KAFKA_SASL_MECHANISM"),
        ({"kafka_ssl_ca_file": "/no/such/ca.pem"}, "TELEMETRY_KAFKA_SSL_CA_FILE: /no/such/ca.pem is no file"),
        ({"kafka_ssl_cert_file": "/no/cert.pem"}, "TELEMETRY_KAFKA_SSL_CERT_FILE: /no/cert.pem is no file"),
        ({"kafka_ssl_key_file": "/no/key.pem"}, "TELEMETRY_KAFKA_SSL_KEY_FILE: /no/key.pem is no file"),
        ({"policy_dir": "/no/such"}, "TELEMETRY_POLICY_DIR: /no/such is no folder"),
        ({"policy_dir": __file__}, f"TELEMETRY_POLICY_DIR: {__file__} is no folder"),
        ({"topic_replication": 0}, "TELEMETRY_TOPIC_REPLICATION"),
        ({"grace_s": -1}, "TELEMETRY_GRACE_S"),
        ({"log_level": "loud"}, "TELEMETRY_LOG_LEVEL"),
        ({"log_format": "xml"}, "TELEMETRY_LOG_FORMAT"),
        ({"database_url_file": "/no/such/file"}, "TELEMETRY_DATABASE_URL_FILE"),
        (ELSEWHERE | {"database_url": "mysql://u:hush@127.0.0.1/d"}, "TELEMETRY_DATABASE_URL"),
        (ELSEWHERE | {"database_url": "hush"}, "TELEMETRY_DATABASE_URL"),
        (ELSEWHERE | {"database_url": "postgresql://u:hush@127.0.0.1:port/d"}, "TELEMETRY_DATABASE_URL"),
        (ELSEWHERE | {"database_url": "postgresql://u:hush@no.such.host.invalid/d"}, "TELEMETRY_DATABASE_URL"),
        (ELSEWHERE, "TELEMETRY_DATABASE_URL"),
        (ELSEWHERE | {"database_url": "postgresql://u:hush@127.0.0.1/d?ssl=on"}, "sslmode is the only one"),
        (ELSEWHERE | {"kafka_bootstrap": ""}, "TELEMETRY_KAFKA_BOOTSTRAP"),
        ({"kafka_bootstrap": "127.0.0.1:1"}, "TELEMETRY_DATABASE_URL"),
        (ELSEWHERE | {"personal_data_keys": ""}, "TELEMETRY_PERSONAL_DATA_KEYS"),
    ],
    ids=lambda value: value if isinstance(value, str) else _told_apart(value),
)
def test_a_wrong_setting_is_named_in_one_line(cli: Cli, settings: dict[str, Any], named: str) -> None:
    refusal = cli("migrate", **settings).refusal
    assert named in refusal
    assert "hush" not in refusal


LOGIN = ("TELEMETRY_KAFKA_SASL_USERNAME", "TELEMETRY_KAFKA_SASL_PASSWORD")


@pytest.mark.parametrize("protocol", ["SASL_SSL", "sasl_plaintext"])
@pytest.mark.parametrize(
    ("given", "missing"),
    [({}, LOGIN), ({"kafka_sasl_username": "u"}, LOGIN[1:]), ({"kafka_sasl_password": "hush"}, LOGIN[:1])],
    ids=["neither", "no password", "no user"],
)
def test_a_login_without_user_or_password_is_refused(
    cli: Cli, protocol: str, given: dict[str, str], missing: tuple[str, ...]
) -> None:
    settings = ELSEWHERE | {"kafka_security_protocol": protocol} | given
    assert cli("migrate", **settings).refusal == (
        f"TELEMETRY_KAFKA_SECURITY_PROTOCOL is {protocol.upper()}, which needs {' and '.join(missing)}"
    )


BROKERS = "TELEMETRY_KAFKA_BOOTSTRAP: must be host:port, several separated by commas, an IPv6 address in brackets"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        pytest.param({"database_url": "mysql://u:hush@h/d"}, "TELEMETRY_DATABASE_URL starts with mysql", id="mysql"),
        pytest.param({"database_url": "hush"}, "TELEMETRY_DATABASE_URL is not an address", id="no address"),
        pytest.param({"personal_data_keys": "k1:aHVzaA=="}, "TELEMETRY_PERSONAL_DATA_KEYS", id="bad keyring"),
        pytest.param({"kafka_bootstrap": "kafka:port"}, BROKERS, id="no port"),
        pytest.param({"kafka_bootstrap": "kafka:65536"}, BROKERS, id="no such port"),
        pytest.param({"kafka_bootstrap": "kafka:0"}, BROKERS, id="port 0"),
        pytest.param({"kafka_bootstrap": "a:9092,,b:9092"}, BROKERS, id="nothing between commas"),
        pytest.param({"kafka_bootstrap": "SSL://kafka:9092"}, BROKERS, id="a listener"),
        pytest.param({"kafka_bootstrap": "a:9092 b:9092"}, BROKERS, id="blanks for commas"),
        pytest.param({"kafka_bootstrap": "::1:9092"}, BROKERS, id="no brackets"),
    ],
)
@pytest.mark.parametrize("command", ["up", "demo"])
def test_what_can_be_seen_to_be_wrong_is_refused_before_a_server_starts(
    cli: Cli, tmp_path: Path, command: str, settings: dict[str, Any], told: str
) -> None:
    refusal = cli(command, data_dir=tmp_path / "data", **settings).refusal
    is_a_strangers = command == "demo" and "database_url" in settings  # the demo takes no database at all
    assert refusal.startswith("TELEMETRY_DATABASE_URL must not be set" if is_a_strangers else told)
    assert "hush" not in refusal
    assert "aHVzaA" not in refusal
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("brokers", ["kafka", "kafka:9092", "127.0.0.1:1, [::1]:9092", "a-1.b_c.example:65535"])
def test_what_a_broker_may_be_called(monkeypatch: pytest.MonkeyPatch, brokers: str) -> None:
    monkeypatch.setenv("TELEMETRY_KAFKA_BOOTSTRAP", brokers)
    assert load_settings().kafka_bootstrap == brokers


def test_a_setting_that_is_none_is_told_with_the_one_that_may_be_meant(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TELEMETRY_LOG_LEVLE=DEBUG\nOTHER=1\n")
    told = cli("policy", "show", "zoomlion-2011", cwd=tmp_path, databse_url="hush", colour="red", test_scale="1")
    assert told.code == 0
    assert told.err.splitlines() == [
        "telemetry-svc: TELEMETRY_COLOUR is no setting",
        "telemetry-svc: TELEMETRY_DATABSE_URL is no setting; is TELEMETRY_DATABASE_URL meant?",
        "telemetry-svc: TELEMETRY_LOG_LEVLE is no setting; is TELEMETRY_LOG_LEVEL meant?",
    ]


def test_every_setting_is_known(cli: Cli) -> None:
    empty: dict[str, Any] = {name.removeprefix(PREFIX): "" for name in settings_names()}
    told = cli("policy", "show", "zoomlion-2011", **empty)
    assert (told.code, told.err) == (0, "")


@pytest.mark.parametrize("command", ["up", "demo", "ingest", "keys list"])
def test_a_wrong_setting_stops_every_command_before_it_begins(cli: Cli, tmp_path: Path, command: str) -> None:
    data_dir = tmp_path / "data"
    assert "TELEMETRY_HTTP_PORT" in cli(*command.split(), http_port="abc", data_dir=data_dir).refusal
    assert not data_dir.exists()


@pytest.mark.parametrize("names", [("DATABASE_URL",), ("KAFKA_BOOTSTRAP",), ("DATABASE_URL", "KAFKA_BOOTSTRAP")])
def test_the_demo_has_servers_of_its_own(cli: Cli, tmp_path: Path, names: tuple[str, ...]) -> None:
    """Its fleet would be registered among real machines."""
    given = {name.lower(): ELSEWHERE[name.lower()] for name in names}
    refusal = cli("demo", data_dir=tmp_path / "data", **given).refusal
    named = " and ".join(f"TELEMETRY_{name}" for name in names)
    assert refusal == f"{named} must not be set: the demo runs on servers and data of its own only"
    assert not (tmp_path / "data").exists()


TAKE_TIMES = ["dead-letters list --since", "dead-letters replay --until", "recover --since", "replay --from"]


@pytest.mark.parametrize("command", TAKE_TIMES)
@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "1970-01-01T00:00:00+00:01"])
def test_a_time_before_all_others_is_refused_before_anything_begins(cli: Cli, command: str, time: str) -> None:
    _assert_no_such_time(cli, command, time)


def test_so_is_one_behind_the_end_of_the_calendar(cli: Cli) -> None:
    _assert_no_such_time(cli, "dead-letters list --until", "9999-12-31T23:59:59-14:00")


@pytest.mark.parametrize("command", TAKE_TIMES)
def test_the_first_time_that_there_is(cli: Cli, command: str) -> None:
    """What is refused then is the database at which nobody answers."""
    options = ["--dry-run"] if "replay" in command else []
    refusal = cli(*command.split(), "1970-01-01T00:00:00Z", *options, **ELSEWHERE).refusal
    assert "TELEMETRY_DATABASE_URL" in refusal


def _assert_no_such_time(cli: Cli, command: str, time: str) -> None:
    refused = cli(*command.split(), time, **ELSEWHERE)
    assert (refused.code, refused.out) == (2, "")
    said = " ".join(line.strip("│ ") for line in refused.err.splitlines())
    assert "lies outside of the years 1970 to 9999" in said
    assert command.rpartition(" ")[2] in said


def test_a_broker_that_does_not_answer_is_named(cli: Cli) -> None:
    file = cli.home / "one.csv"
    file.write_text("machine_id,recorded_at,hour_meter_h\nA,2026-11-20T04:20:31Z,1\n")
    assert cli("pings", "import", file, **ELSEWHERE).refusal == (
        "no Kafka broker answers at 127.0.0.1:1 (TELEMETRY_KAFKA_BOOTSTRAP)"
    )


def test_a_bad_keyring_is_named_without_its_keys(cli: Cli) -> None:
    settings = ELSEWHERE | {"personal_data_keys": "k1:aHVzaA=="}
    refusal = cli("machines", "import", __file__, **settings).refusal
    assert refusal.startswith("TELEMETRY_PERSONAL_DATA_KEYS")
    assert "aHVzaA" not in refusal


def test_settings_may_stand_in_a_file_and_the_environment_wins(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TELEMETRY_LOG_LEVEL=loud\n")
    assert "TELEMETRY_LOG_LEVEL" in cli("migrate", cwd=tmp_path).refusal
    assert "TELEMETRY_DATABASE_URL is not set" in cli("migrate", cwd=tmp_path, log_level="INFO").refusal
    (tmp_path / "url").write_text("mysql://u:hush@127.0.0.1/d\n")
    settings = ELSEWHERE | {"database_url_file": tmp_path / "url"}
    assert "mysql://" in cli("migrate", **settings).refusal


BAD_POLICIES = [
    pytest.param("edition: [\n", 2, "not YAML", id="not YAML"),
    pytest.param("edition: own\n", 1, "missing", id="everything is missing"),
]


@pytest.mark.parametrize("command", ["up", "demo", "ingest"])
@pytest.mark.parametrize(("content", "line", "reason"), BAD_POLICIES)
def test_a_bad_policy_file_is_named_with_its_line(
    cli: Cli, tmp_path: Path, command: str, content: str, line: int, reason: str
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(content)
    elsewhere: dict[str, Any] = ELSEWHERE if command == "ingest" else {}
    refusal = cli(command, policy_dir=tmp_path, data_dir=tmp_path / "data", **elsewhere).refusal
    assert refusal.startswith(f"{path}:{line}: ")
    assert reason in refusal
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["machines import", "pings import"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "No such file", id="absent"),
        pytest.param(b"", "machine_id", id="empty"),
        pytest.param(b"model,tonnage_t\n", "machine_id", id="another file"),
        pytest.param(b"machine_id,recorded_at,machine_id\n", "machine_id twice", id="a column twice"),
        pytest.param(b"machine_id,recorded_at,m\xff\n", "UTF-8", id="not UTF-8"),
    ],
)
def test_a_file_that_is_no_good_is_named(
    cli: Cli, tmp_path: Path, command: str, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "fleet.csv"
    if content is not None:
        path.write_bytes(content)
    refusal = cli(*command.split(), path, **ELSEWHERE).refusal
    assert str(path) in refusal
    assert reason in refusal


def test_the_installed_command_is_the_same(home: Path) -> None:
    with installed(home, "migrate", http_port="abc") as refused:
        assert refused.ends(60) == 2
        assert refused.out == ""
        assert refused.err.startswith("telemetry-svc: TELEMETRY_HTTP_PORT: ")
