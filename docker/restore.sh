#!/usr/bin/env bash
# Puts a backup of docker/backup.sh back, in place of what is there:
#   docker/restore.sh BACKUPS/2026-11-26T00-00-00Z
# The stack is stopped for it, and starts again with the data of the backup. The secrets have to be there; they may be new.
set -euo pipefail
backup=${1:?usage: docker/restore.sh BACKUP}
backup=$(cd "$backup" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
export COMPOSE_FILE=${COMPOSE_FILE:-docker-compose.yml:docker/tls.yml}
cd "$here/.."
compose() { docker compose --project-directory . "$@"; }

(cd "$backup" && sha256sum --check --quiet SHA256SUMS)

# As the user of the service, in the volumes of the service, without what it mounts else.
in_volume() { compose run --rm --no-deps -T --entrypoint sh "$1" -euc "$2"; }

compose stop
echo "PostgreSQL"
compose up --detach --wait postgres
compose exec -T postgres dropdb --username postgres --if-exists --force autodealgenie
compose exec -T postgres createdb --username postgres --owner autodealgenie autodealgenie
compose exec -T postgres pg_restore --username postgres --dbname autodealgenie --exit-on-error --single-transaction \
  <"$backup/postgres.dump"
# Rights on the database itself are in no dump of it.
compose exec -T postgres psql --quiet --username postgres --dbname autodealgenie --set ON_ERROR_STOP=1 --command \
  "REVOKE ALL ON DATABASE autodealgenie FROM PUBLIC; GRANT CONNECT ON DATABASE autodealgenie TO backend, business, monitor"

echo "Prometheus"
in_volume prometheus 'rm -rf /prometheus/* && tar -xz --strip-components 1 -C /prometheus' <"$backup/prometheus.tar.gz"

if [ -e "$backup/grafana.tar.gz" ]; then
  echo "Grafana"
  in_volume grafana \
    'find /var/lib/grafana -mindepth 1 -maxdepth 1 ! -name dashboards -exec rm -rf {} + &&
     tar -xz --strip-components 1 --exclude grafana/dashboards -C /var/lib/grafana' <"$backup/grafana.tar.gz"
fi

compose up --detach --wait
