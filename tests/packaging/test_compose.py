"""compose.yaml: every role is there, no more open than it must be, with settings that the service would take.

Its shape is checked by `make lint-docker`; this is about what it says.
"""

from pathlib import Path

import pytest

from telemetry_svc.app import Role
from telemetry_svc.embedded.jars import locked_jars
from telemetry_svc.settings import load_settings
from tests.packaging.project import SECRETS, commands, compose, settings_names
from tests.packaging.test_image import PINNED

Service = dict[str, object]

SERVICES: dict[str, Service] = compose()["services"]
OURS = {name: service for name, service in SERVICES.items() if str(service["image"]).startswith("telemetry-svc:")}
EACH_OF_OURS = pytest.mark.parametrize("service", OURS.values(), ids=OURS)
EACH = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def environment(service: Service) -> dict[str, str]:
    settings = service["environment"]
    assert isinstance(settings, dict)
    return {name: str(value) for name, value in settings.items()}


def test_one_service_per_role_and_the_migration_before_them() -> None:
    assert OURS.keys() == {"migrate", *Role}
    for name, service in OURS.items():
        assert service["command"] == [name]
        assert name in commands()
        waits_for = service["depends_on"]
        if name == "migrate":
            assert waits_for == {
                "kafka": {"condition": "service_healthy"},
                "postgres": {"condition": "service_healthy"},
            }
        else:
            assert waits_for == {"migrate": {"condition": "service_completed_successfully"}}


@EACH_OF_OURS
def test_its_settings_exist(service: Service) -> None:
    assert {name for name in environment(service) if name.startswith("TELEMETRY_")} <= settings_names()


@EACH_OF_OURS
def test_the_service_takes_its_settings(service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://telemetry:word@postgres:5432/telemetry\n")
    monkeypatch.chdir(tmp_path)
    for name, value in environment(service).items():
        monkeypatch.setenv(name, str(secret) if name.endswith("_FILE") else value)
    settings = load_settings()
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://telemetry:word@postgres:5432/telemetry"
    assert settings.kafka_bootstrap == "kafka:9092"
    assert settings.http_host == "0.0.0.0"
    assert settings.topic_replication == 1


@EACH
def test_no_secret_is_written_into_it(service: Service) -> None:
    names = {name for name in environment(service) if "PASSWORD" in name or name.removeprefix("TELEMETRY_") in SECRETS}
    assert all(name.endswith("_FILE") for name in names)
    assert "://" not in environment(service).get("TELEMETRY_DATABASE_URL", "")


def test_every_secret_file_is_one_that_the_service_is_given() -> None:
    for name, service in SERVICES.items():
        files = {value for key, value in environment(service).items() if key.endswith("_FILE")}
        given = service.get("secrets", [])
        assert isinstance(given, list)
        assert files == {f"/run/secrets/{secret}" for secret in given}, name


@EACH
def test_it_has_no_capability_and_gains_none(service: Service) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & service.keys()


@EACH_OF_OURS
def test_it_writes_nothing_to_its_image(service: Service) -> None:
    assert service["read_only"] is True
    assert "volumes" not in service


@EACH
def test_it_is_published_on_loopback_only(service: Service) -> None:
    ports = service.get("ports", [])
    assert isinstance(ports, list)
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


def test_only_the_two_http_doors_are_published() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"gateway", "api"}


@EACH
def test_images_are_pinned(service: Service) -> None:
    assert PINNED.fullmatch(str(service["image"]))


def test_the_broker_is_the_version_that_the_tests_run_on() -> None:
    tested = next(jar.version for jar in locked_jars() if jar.artifact == "kafka_2.13")
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{tested}"


def test_the_database_is_the_major_version_that_the_tests_run_on() -> None:
    assert str(SERVICES["postgres"]["image"]).startswith("postgres:18.")
