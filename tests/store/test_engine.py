"""What a database URL may say, and what of it reaches the driver."""

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from telemetry_svc.store.engine import BadDatabaseUrl, create_engine, driver_url


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_every_name_of_postgresql_is_our_driver(scheme: str) -> None:
    url = driver_url(f"{scheme}://u:p%40ss@db.example:6432/telemetry")
    assert (url.drivername, url.host, url.port, url.password) == ("postgresql+asyncpg", "db.example", 6432, "p@ss")
    assert dict(url.query) == {}


@pytest.mark.parametrize("mode", ["disable", "require", "verify-full"])
def test_sslmode_is_handed_to_the_driver_under_its_own_name(mode: str) -> None:
    assert dict(driver_url(f"postgresql://u@h/d?sslmode={mode}").query) == {"ssl": mode}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        pytest.param(
            "postgresql://u:hush@h/d?sslmode=require&target_session_attrs=any", "target_session_attrs", id="one"
        ),
        pytest.param("postgresql://u:hush@h/d?b=1&a=hush", "a, b is no option", id="several"),
        pytest.param("postgresql://u:hush@h/d?ssl=require", "ssl is no option", id="the driver's own name"),
        pytest.param("mysql://u:hush@h/d", "starts with mysql://", id="another database"),
        pytest.param("hush", "not an address", id="no address"),
        pytest.param("postgresql://u:hush@h:port/d", "not an address", id="no port"),
    ],
)
def test_what_it_may_not_say_is_told_without_its_password(url: str, told: str) -> None:
    with pytest.raises(BadDatabaseUrl, match=told) as caught:
        driver_url(url)
    assert str(caught.value).startswith("TELEMETRY_DATABASE_URL")
    assert "hush" not in str(caught.value)


async def _answer(database_url: str, mode: str) -> object:
    url = make_url(database_url).update_query_dict({"sslmode": mode}).render_as_string(hide_password=False)
    engine = create_engine(url, application_name="tests-sslmode")
    try:
        async with engine.connect() as connection:
            return await connection.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    finally:
        await engine.dispose()


async def test_a_server_without_tls_is_reached_where_none_is_asked_and_refused_where_it_is(database_url: str) -> None:
    assert await _answer(database_url, "disable") is False
    assert await _answer(database_url, "prefer") is False
    with pytest.raises((DBAPIError, ConnectionError), match="SSL"):
        await _answer(database_url, "require")
