#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes every secret docker-compose.yml names: random passwords, and certificates of an authority made here. A file
# that exists is kept. For production put certificates of your own authority in their place.
# Usage: bash deploy/make_secrets.sh [HOST_NAME]
set -euo pipefail
cd "$(dirname "$0")/secrets"
host_name="${1:-localhost}"
valid_days=825

# The folder is private; its files are readable, for each container reads them as a user of its own.
chmod 700 .
umask 022

random_word() { openssl rand -hex 24; }

certificate() { # FILE_PREFIX COMMON_NAME EXTENSION...
  local prefix="$1" name="$2" extensions=() extension
  shift 2
  for extension in "$@"; do extensions+=(-addext "$extension"); done
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -sha256 -days "$valid_days" \
    -subj "/CN=$name" -keyout "${prefix}_key.pem" -out "${prefix}_certificate.pem" "${extensions[@]}" "${signer[@]}" \
    2>/dev/null
  chmod 644 "${prefix}_key.pem"
}

if [[ ! -e database_password ]]; then
  random_word | tr -d '\n' >database_password
  rm -f database_url
fi
if [[ ! -e database_url ]]; then
  printf 'postgresql+psycopg://airway:%s@postgres:5432/airway' "$(cat database_password)" >database_url
fi
if [[ ! -e orthanc_users.json ]]; then
  printf '{"RegisteredUsers": {"operator": "%s"}}\n' "$(random_word)" >orthanc_users.json
fi
if [[ ! -e edge_certificate.pem || ! -e clients_ca.pem ]]; then
  signer=()
  certificate authority "Airway local authority" basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign
  chmod 600 authority_key.pem
  cp authority_certificate.pem clients_ca.pem
  signer=(-CA authority_certificate.pem -CAkey authority_key.pem)
  certificate edge "$host_name" basicConstraints=critical,CA:FALSE extendedKeyUsage=serverAuth \
    "subjectAltName=DNS:$host_name,DNS:localhost,IP:127.0.0.1"
  certificate client "Airway first client" basicConstraints=critical,CA:FALSE extendedKeyUsage=clientAuth
  chmod 600 client_key.pem
fi
echo "secrets: $PWD holds what docker-compose.yml names, and client_certificate.pem with its key for a first client"
