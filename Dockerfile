# SPDX-License-Identifier: Apache-2.0
# One image for the gateway, the task manager and the performer; the configuration's `roles` choose what it runs.

FROM python:3.11-slim-bookworm AS build
WORKDIR /build
ENV UV_PROJECT_ENVIRONMENT=/opt/airway UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
COPY pyproject.toml uv.lock README.md LICENSE CHANGELOG.md ./
# The lock pins uv as well; the packages come first, so that a change of our code does not fetch them again.
RUN pip install --no-cache-dir "uv==$(awk '$0 == "name = \"uv\"" { getline; gsub(/version = |"/, ""); print; exit }' uv.lock)" \
 && uv sync --frozen --no-dev --no-install-project
COPY profiles profiles
COPY task_manager task_manager
COPY informatics_gateway informatics_gateway
COPY ai_apps ai_apps
COPY conformance conformance
RUN uv sync --frozen --no-dev --no-editable

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Airway" \
      org.opencontainers.image.description="Standards-based imaging-AI task manager" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 airway \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin airway \
 && install --directory --owner airway --group airway --mode 0750 /data /data/store /etc/airway
COPY --from=build /opt/airway /opt/airway
COPY deploy/healthcheck.py /usr/local/lib/airway/healthcheck.py
ENV PATH=/opt/airway/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "/usr/local/lib/airway/healthcheck.py", "/data"]
ENTRYPOINT ["airway"]
CMD ["serve", "--data", "/data", "--config", "/etc/airway/airway.yaml"]
