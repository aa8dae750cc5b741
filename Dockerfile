# One image, role by command: IMAGE ingest, IMAGE api, IMAGE migrate … (README, "In containers").
# Linted by `make lint-docker`; no engine was at hand to build it.

FROM python:3.13.11-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /src

# uv, itself from the lock and checked by pip, installs the rest: every file that comes in has its hash in a lock.
COPY requirements.lock requirements-runtime.lock ./
RUN sed -n '/^uv==/,/[^\\]$/p' requirements.lock > uv.lock \
    && python -m venv /build \
    && /build/bin/pip install --no-cache-dir --require-hashes --no-deps -r uv.lock \
    && python -m venv --without-pip /opt/telemetry-svc \
    && /build/bin/uv pip install --python /opt/telemetry-svc/bin/python --require-hashes --no-deps -r requirements-runtime.lock

# The wheel carries the migrations; its build back end comes from the lock as well.
COPY pyproject.toml ./
COPY migrations migrations
COPY src src
RUN /build/bin/uv build --wheel --require-hashes --build-constraints requirements.lock --out-dir /wheel \
    && /build/bin/uv pip install --python /opt/telemetry-svc/bin/python --no-deps --no-index /wheel/*.whl


FROM python:3.13.11-slim-trixie
RUN groupadd --system --gid 10001 telemetry \
    && useradd --system --uid 10001 --gid telemetry --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin telemetry
COPY --from=build /opt/telemetry-svc /opt/telemetry-svc
# Inside a container the loopback address reaches nobody; what is published decides who gets in.
ENV PATH=/opt/telemetry-svc/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    TELEMETRY_HTTP_HOST=0.0.0.0 TELEMETRY_DATA_DIR=/var/lib/telemetry-svc
WORKDIR /
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys; \
asked = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('TELEMETRY_HTTP_PORT') or 8000), timeout=4); \
asked.request('GET', '/livez'); \
sys.exit(asked.getresponse().status != 200)"]
ENTRYPOINT ["telemetry-svc"]
CMD ["--help"]
