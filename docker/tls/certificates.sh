#!/usr/bin/env bash
# Makes an authority, and certificates of it for the services and for Prometheus as their client, below secrets/ (or the folder
# that is given): for tests and for a network of your own. Run it again to rotate the certificates: everybody takes the new ones
# without a restart, and the authority stays. Real certificates go into the same files: docs/production.md.
set -euo pipefail
secrets=${1:-$(dirname "$0")/../../secrets}
days=${DAYS:-90}
tls=$secrets/tls
names=DNS:localhost,IP:127.0.0.1
for service in prometheus prometheus-2 alertmanager alertmanager-2 pg-exporter redis-exporter business-exporter \
  node-exporter grafana; do
  names=$names,DNS:$service
done

mkdir -p "$secrets" "$tls"
chmod 700 "$secrets"
# Others cannot get here; accounts of containers can.
chmod 755 "$tls"
work=$(mktemp -d "$secrets/certificates.XXXXXX")
trap 'rm -rf "$work"' EXIT

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }
if [ ! -s "$secrets/ca.key" ]; then
  key "$work/ca.key"
  openssl req -x509 -new -key "$work/ca.key" -days 3650 -subj "/CN=AutoDealGenie monitoring" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -out "$work/ca.crt"
  install -m 400 "$work/ca.key" "$secrets/ca.key"
  install -m 444 "$work/ca.crt" "$tls/ca.crt"
fi
# issue NAME SUBJECT USAGE SUBJECT_ALTERNATIVE_NAMES
issue() {
  key "$work/$1.key"
  openssl req -new -key "$work/$1.key" -subj "/CN=$2" -out "$work/$1.csr"
  openssl x509 -req -in "$work/$1.csr" -CA "$tls/ca.crt" -CAkey "$secrets/ca.key" -days "$days" \
    -set_serial "0x$(openssl rand -hex 16)" -out "$work/$1.crt" -extfile <(
      printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=%s\nsubjectAltName=%s\n' "$3" "$4"
    ) 2>/dev/null
}
issue server "AutoDealGenie monitoring" serverAuth "$names"
issue client prometheus clientAuth DNS:prometheus
# By rename, key and certificate right after another: who reads sees whole files.
for file in server.key server.crt client.key client.crt; do
  chmod 444 "$work/$file"
  mv -f "$work/$file" "$tls/$file"
done
