#!/usr/bin/env bash
# Smoke test of a running stack: TAP on stdout, or JSON with --json; status 1 when something fails, 2 for wrong usage.
# Compose has the standard ports; `--stack FOLDER` reads those of `cargo xtask up` (target/stack). PROMETHEUS_URL,
# ALERTMANAGER_URL, GRAFANA_URL, BACKEND_URL, PG_EXPORTER_URL, REDIS_EXPORTER_URL and BUSINESS_EXPORTER_URL override both.
# An empty GRAFANA_URL leaves Grafana out. Grafana's password is read from the file that GRAFANA_PASSWORD_FILE names.
set -euo pipefail

usage() {
  echo "usage: test-monitoring.sh [--json] [--stack FOLDER]" >&2
  exit 2
}

json=false stack=
while [ $# -gt 0 ]; do
  case $1 in
    --json) json=true ;;
    --stack) stack=${2:-} && [ -n "$stack" ] || usage && shift ;;
    *) usage ;;
  esac
  shift
done
for tool in curl jq; do
  command -v "$tool" >/dev/null || { echo "test-monitoring.sh needs $tool" >&2; exit 2; }
done

# The address of a part: by its name in the stack, else on its standard port.
address() {
  if [ -n "$stack" ]; then
    jq --raw-output --arg name "$1" '.parts[] | select(.name == $name) | .url' "$stack/state.json"
  else
    echo "http://127.0.0.1:$2"
  fi
}
prometheus=${PROMETHEUS_URL:-$(address prometheus 9090)}
alertmanager=${ALERTMANAGER_URL:-$(address alertmanager 9093)}
grafana=${GRAFANA_URL-$(address grafana 3001)}
backend=${BACKEND_URL:-$(address autodealgenie-backend 8000)}
pg_exporter=${PG_EXPORTER_URL:-$(address pg-exporter 9187)}
redis_exporter=${REDIS_EXPORTER_URL:-$(address redis-exporter 9121)}
business_exporter=${BUSINESS_EXPORTER_URL:-$(address business-exporter 9188)}

number=0 failures=0 results='[]'
# record ok|"not ok" NAME [DETAIL] [SKIP]
record() {
  number=$((number + 1))
  [ "$1" = ok ] || failures=$((failures + 1))
  if $json; then
    results=$(jq --compact-output --arg status "$1" --arg name "$2" --arg detail "${3:-}" --arg skip "${4:-}" \
      '. + [{name: $name, ok: ($status == "ok"), skipped: ($skip != ""), detail: $detail}]' <<<"$results")
  elif [ -n "${4:-}" ]; then
    echo "ok $number - $2 # SKIP $3"
  else
    echo "$1 $number - $2"
    [ -z "${3:-}" ] || echo "  # $3"
  fi
}
# check NAME COMMAND…: what the command says is the reason when it fails.
check() {
  local name=$1 said
  shift
  if said=$("$@" 2>&1); then record ok "$name"; else record "not ok" "$name" "${said//$'\n'/; }"; fi
}
skip() { record ok "$1" "$2" skip; }

fetch() { curl --silent --show-error --fail --max-time 10 "$@"; }
api() { fetch --get --data-urlencode "query=$1" "$prometheus/api/v1/query"; }
# The only value of a query, or nothing.
value() { api "$1" | jq --raw-output '.data.result[0].value[1] // empty'; }
# expect QUERY OPERATOR NUMBER
expect() {
  local found
  found=$(value "$1")
  jq --exit-status --null-input --arg found "$found" --argjson wanted "$3" \
    "(\$found | tonumber? // error(\"no value\")) $2 \$wanted" >/dev/null || { echo "$1 is ${found:-absent}, not $2 $3"; return 1; }
}

retention() {
  fetch "$prometheus/api/v1/status/flags" | jq --exit-status '.data["storage.tsdb.retention.time"] | test("^(30d|4w2d)$")'
}
targets_up() {
  local found
  found=$(fetch "$prometheus/api/v1/targets?state=active" | jq --raw-output --arg job "$1" \
    '[.data.activeTargets[] | select(.labels.job == $job)] | if length == 0 then "no target" else map(select(.health != "up") | .scrapeUrl + ": " + .lastError) | join("; ") end')
  [ -z "$found" ] || { echo "$found"; return 1; }
}
alerting_rules() { fetch "$prometheus/api/v1/rules?type=alert" | jq '[.data.groups[].rules[]]'; }
enough_rules() {
  local count
  count=$(alerting_rules | jq length)
  [ "$count" -ge 60 ] || { echo "only $count alerts"; return 1; }
}
rules_healthy() {
  local found
  found=$(fetch "$prometheus/api/v1/rules" | jq --raw-output '[.data.groups[].rules[] | select(.health == "err") | .name + ": " + .lastError] | join("; ")')
  [ -z "$found" ] || { echo "$found"; return 1; }
}
promised_rules() {
  local missing
  missing=$(alerting_rules | jq --raw-output '["ServiceDown", "HighErrorRate", "DatabaseDown", "RedisDown", "DiskSpaceLow",
    "DatabaseConnectionPoolHigh", "HighAPILatency", "HighRequestRate", "SlowQueries", "LowCacheHitRate", "HighRedisMemoryUsage",
    "HighMemoryUsage", "LowUserSignupRate", "HighAuthenticationFailureRate"] - map(.name) | join(", ")')
  [ -z "$missing" ] || { echo "missing: $missing"; return 1; }
}
page_has() {
  local page
  page=$(fetch "$1/metrics")
  grep --quiet "^$2" <<<"$page" || { echo "$1/metrics has no $2"; return 1; }
}
# Every exporter answers in gzip when asked to.
compresses() {
  fetch --compressed --dump-header - --output /dev/null "$1/metrics" | grep --ignore-case --quiet '^content-encoding: gzip' \
    || { echo "$1/metrics is not compressed"; return 1; }
}
openmetrics() {
  fetch --header 'Accept: application/openmetrics-text; version=1.0.0' "$1/metrics" | tail -n 1 | grep --quiet '^# EOF$' \
    || { echo "$1/metrics has no # EOF"; return 1; }
}
watchdog_arrives() {
  fetch --get --data-urlencode 'filter=alertname="Watchdog"' "$alertmanager/api/v2/alerts" \
    | jq --exit-status 'any(.[]; .receivers[].name == "dead-man")' >/dev/null || { echo "Alertmanager has no Watchdog for dead-man"; return 1; }
}
# An alert with labels of its own reaches the receiver of its severity, and ends.
synthetic_alert() {
  local id="smoke-$$-$RANDOM" now later found
  now=$(date --utc +%Y-%m-%dT%H:%M:%SZ)
  later=$(date --utc --date "+5 minutes" +%Y-%m-%dT%H:%M:%SZ)
  send() {
    jq --null-input --compact-output --arg id "$id" --arg since "$now" --arg until "$1" \
      '[{labels: {alertname: "SmokeTest", severity: "warning", component: "backend", test: $id}, startsAt: $since, endsAt: $until}]' \
      | fetch --header 'Content-Type: application/json' --data @- "$alertmanager/api/v2/alerts"
  }
  send "$later"
  found=$(fetch --get --data-urlencode "filter=test=\"$id\"" "$alertmanager/api/v2/alerts" | jq --raw-output '.[0].receivers[0].name // "nobody"')
  send "$now"
  [ "$found" = ticket-platform ] || { echo "it reaches $found"; return 1; }
}
# Requests that are made here are counted by the backend, scraped and summed.
traffic_is_counted() {
  local query='sum(http_requests_total{job="autodealgenie-backend",handler!~"/health|/ready|/metrics"})' before after deadline
  before=$(value "$query")
  for _ in 1 2 3 4 5; do
    curl --silent --max-time 10 --output /dev/null "$backend/api/v1/deals"
  done
  deadline=$((SECONDS + 60))
  while :; do
    after=$(value "$query")
    jq --exit-status --null-input --arg before "${before:-0}" --arg after "${after:-0}" \
      '($after | tonumber) >= ($before | tonumber) + 5' >/dev/null && return
    [ "$SECONDS" -lt "$deadline" ] || { echo "${before:-none} before, ${after:-none} after 5 requests"; return 1; }
    sleep 1
  done
}
grafana_get() {
  if [ -n "${GRAFANA_PASSWORD_FILE:-}" ]; then
    # By stdin: a password on the command line is seen by everybody.
    printf 'user = "admin:%s"\n' "$(<"$GRAFANA_PASSWORD_FILE")" | fetch --config - "$grafana$1"
  else
    fetch "$grafana$1"
  fi
}
dashboard_has() {
  local found
  found=$(grafana_get "/api/dashboards/uid/$1" | jq '[.meta.provisioned, (.dashboard.panels | length)]' --compact-output)
  [ "$found" = "[true,$2]" ] || { echo "provisioned and panels: $found"; return 1; }
}

check "Prometheus is ready" fetch "$prometheus/-/ready"
check "Prometheus runs with its last configuration" expect prometheus_config_last_reload_successful == 1
check "Prometheus keeps 30 days" retention
for job in autodealgenie-backend postgres redis business node prometheus alertmanager; do
  check "targets of $job are up" targets_up "$job"
done
check "no scrape takes longer than 8 s" expect 'max(scrape_duration_seconds)' '<' 8
check "there are at least 60 alerts" enough_rules
check "every promised alert is there" promised_rules
check "every rule can be evaluated" rules_healthy
check "no evaluation was left out" expect 'sum(increase(prometheus_rule_group_iterations_missed_total[5m]))' == 0
check "the backend has metrics" page_has "$backend" http_requests_total
check "the backend speaks OpenMetrics" openmetrics "$backend"
check "pg-exporter reaches PostgreSQL" page_has "$pg_exporter" 'pg_up 1'
check "pg-exporter compresses" compresses "$pg_exporter"
check "redis-exporter reaches Redis" page_has "$redis_exporter" 'redis_up 1'
check "redis-exporter compresses" compresses "$redis_exporter"
check "business-exporter reaches its database" page_has "$business_exporter" 'business_exporter_up.* 1$'
check "PostgreSQL's connections are recorded" expect instance:pg_connections:ratio '<' 1
check "Prometheus knows an Alertmanager" expect prometheus_notifications_alertmanagers_discovered '>=' 1
check "Alertmanager is ready" fetch "$alertmanager/-/ready"
check "Watchdog fires" expect 'ALERTS{alertname="Watchdog",alertstate="firing"}' == 1
check "Watchdog arrives" watchdog_arrives
check "an alert reaches its receiver" synthetic_alert
check "traffic is counted" traffic_is_counted
if [ -z "$grafana" ]; then
  skip "Grafana" "this stack has none"
else
  check "Grafana is well" fetch "$grafana/api/health"
  check "Grafana reaches Prometheus" grafana_get /api/datasources/uid/prometheus/health
  check "System Overview has 7 panels" dashboard_has system-overview 7
  check "Business Metrics has 7 panels" dashboard_has business-metrics 7
  check "Database Performance has 8 panels" dashboard_has database-performance 8
fi

if $json; then
  jq --argjson failures "$failures" '{ok: ($failures == 0), failures: $failures, checks: .}' <<<"$results"
else
  echo "1..$number"
fi
[ "$failures" -eq 0 ]
