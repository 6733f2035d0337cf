#!/usr/bin/env bash
# Backs up PostgreSQL, Prometheus and Grafana of the running stack into a new folder below the one that is given:
#   docker/backup.sh BACKUPS          COMPOSE_FILE names the overlays: docker-compose.yml:docker/tls.yml
# PostgreSQL by pg_dump, Prometheus by its snapshot API (docker/tls.yml opens it), Grafana by a copy of its database and files.
# The folder appears under its name when it is whole. Keep it off this machine: docs/production.md.
set -euo pipefail
backups=${1:?usage: docker/backup.sh BACKUPS}
here=$(cd "$(dirname "$0")" && pwd)
export COMPOSE_FILE=${COMPOSE_FILE:-docker-compose.yml:docker/tls.yml}
cd "$here/.."
secrets=${SECRETS:-secrets}
compose() { docker compose --project-directory . "$@"; }

mkdir -p "$backups"
backups=$(cd "$backups" && pwd)
name=$(date --utc +%Y-%m-%dT%H-%M-%SZ)
work=$backups/$name.partial
umask 077
mkdir "$work"
trap 'rm -rf "$work"' EXIT

echo "PostgreSQL"
compose exec -T postgres pg_dump --username postgres --dbname autodealgenie --format custom >"$work/postgres.dump"
# A dump that cannot be read is none.
compose exec -T postgres pg_restore --list <"$work/postgres.dump" >/dev/null

echo "Prometheus"
snapshot=$(
  # By stdin: a password on the command line is seen by everybody.
  printf 'user = "monitoring:%s"\n' "$(<"$secrets/web_password")" |
    curl --silent --show-error --fail-with-body --config - --cacert "$secrets/tls/ca.crt" --request POST \
      https://localhost:9090/api/v1/admin/tsdb/snapshot |
    sed -n 's/.*"name":"\([^"]*\)".*/\1/p'
)
[ -n "$snapshot" ] || { echo "Prometheus made no snapshot" >&2; exit 1; }
container=$(compose ps --quiet prometheus)
docker cp --quiet "$container:/prometheus/snapshots/$snapshot" - | gzip >"$work/prometheus.tar.gz"
compose exec -T prometheus rm -r "/prometheus/snapshots/$snapshot"

if container=$(compose ps --quiet grafana) && [ -n "$container" ]; then
  echo "Grafana"
  # SQLite's file is whole only when nobody writes to it.
  compose pause grafana
  docker cp --quiet "$container:/var/lib/grafana" - | gzip >"$work/grafana.tar.gz" || { compose unpause grafana; exit 1; }
  compose unpause grafana
fi

(cd "$work" && sha256sum -- * >SHA256SUMS)
mv "$work" "$backups/$name"
trap - EXIT
echo "$backups/$name"
