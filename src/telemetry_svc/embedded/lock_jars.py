"""Makes `kafka-jars.lock` anew: `python -m telemetry_svc.embedded.lock_jars` after changing `ROOTS`.

`kafka-clients` is a root by name, because log4j's dependency management would pull it below the broker's version and
the broker would die; `log4j-slf4j-impl`, because without a binding the broker's log stays empty. Look at the
difference before committing it: the sha256 written are those of what was downloaded now.
"""

import hashlib
import tempfile
from pathlib import Path

from telemetry_svc.embedded.jars import Jar

KAFKA_VERSION = "4.1.2"
LOG4J_VERSION = "2.25.3"  # the one that this Kafka declares
ROOTS = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
    f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J_VERSION}",
)
LOCK = Path(__file__).with_name("kafka-jars.lock")
_HEADER = "# The jars of the embedded Kafka; made by python -m telemetry_svc.embedded.lock_jars\n"
_RUNTIME_SCOPES = (None, "compile", "runtime")


def resolve(repository: Path) -> list[Jar]:
    """Download the roots and all they need at run time, and name each with its sha256."""
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=repository, local_repos=[])
    roots, transitive = context.resolver.resolve([context.create_dependency(root) for root in ROOTS])
    jars = []
    for dependency in (*roots, *transitive):
        if dependency.scope in _RUNTIME_SCOPES:
            content = dependency.artifact.resolve().read_bytes()
            sha256 = hashlib.sha256(content).hexdigest()
            jars.append(Jar(dependency.groupId, dependency.artifactId, dependency.version, sha256))
    return sorted(jars, key=str)


def check(jars: list[Jar]) -> None:
    """Refuse a set in which the broker's own jars have different versions."""
    mixed = [str(jar) for jar in jars if jar.group == "org.apache.kafka" and jar.version != KAFKA_VERSION]
    if mixed:
        raise SystemExit(f"not of version {KAFKA_VERSION}: {', '.join(mixed)}")


def main() -> None:
    """Write the lock."""
    with tempfile.TemporaryDirectory() as scratch:
        jars = resolve(Path(scratch))
    check(jars)
    LOCK.write_text(_HEADER + "".join(f"{jar} sha256:{jar.sha256}\n" for jar in jars))


if __name__ == "__main__":
    main()
