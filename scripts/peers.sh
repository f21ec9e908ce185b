#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Brings the independent programs the tests run against: Debian packages and, into .peers/node, npm packages.
# Says which command to run, and fails, where it may not install packages itself.
set -euo pipefail
cd "$(dirname "$0")/.."

node_source=conformance/peers/node
node_folder=.peers/node

# Probe (a command, or a path pattern) and the Debian package that brings it.
wanted=(
  "Orthanc orthanc"
  "/usr/share/orthanc/plugins/libOrthancDicomWeb.so orthanc-dicomweb"
  "storescu dcmtk"
  "dciodvfy dicom3tools"
  "/usr/share/java/pixelmed.jar libpixelmed-java"
  "java default-jre-headless"
  "rsyslogd rsyslog"
  "/usr/lib/*/rsyslog/lmnsd_gtls.so rsyslog-gnutls"
  "/usr/lib/postgresql/*/bin/initdb postgresql"
  "openssl openssl"
)

is_present() {
  case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null ;;
  esac
}

node_is_installed() {
  cmp --silent "$node_source/package-lock.json" "$node_folder/installed-lock.json" &&
    cmp --silent "$node_source/package.json" "$node_folder/package.json"
}

missing=()
for row in "${wanted[@]}"; do
  read -r probe package <<<"$row"
  is_present "$probe" || missing+=("$package")
done
if ! node_is_installed && ! is_present npm; then
  missing+=(npm)
fi

if ((${#missing[@]})); then
  as_root=()
  if ((EUID != 0)); then
    as_root=(sudo -n)
  fi
  if ! command -v apt-get >/dev/null; then
    echo "peers: missing: ${missing[*]} (Debian package names), and this system has no apt-get." >&2
    echo "peers: install them by this system's own means, then run make peers again." >&2
    exit 1
  fi
  if ((EUID != 0)) && ! sudo -n true 2>/dev/null; then
    echo "peers: the tests need packages that only an administrator can install. Run this, then try again:" >&2
    echo "  sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  echo "peers: installing ${missing[*]}"

  # The tests start their own copies on free ports: no service of these packages may start with the installation.
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
  fi
  install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends
    --option DPkg::Lock::Timeout=300)
  if ! "${install[@]}" "${missing[@]}" >/dev/null 2>&1; then
    "${as_root[@]}" apt-get update --quiet >/dev/null
    "${install[@]}" "${missing[@]}" >/dev/null
  fi
  if [[ -d /run/systemd/system ]]; then # nor may one start at the next boot
    for package in "${missing[@]}"; do
      case $package in
        orthanc | rsyslog | postgresql) "${as_root[@]}" systemctl disable --quiet "$package" || true ;;
      esac
    done
  fi
  for row in "${wanted[@]}"; do
    read -r probe package <<<"$row"
    if ! is_present "$probe"; then
      echo "peers: $package is installed and still $probe is not there." >&2
      exit 1
    fi
  done
fi

if ! node_is_installed; then
  echo "peers: installing npm packages into $node_folder"
  mkdir -p "$node_folder"
  rm -f "$node_folder/installed-lock.json"
  cp "$node_source/package.json" "$node_source/package-lock.json" "$node_folder/"
  npm ci --prefix "$node_folder" --ignore-scripts --no-fund --no-audit --loglevel=error
  cp "$node_source/package-lock.json" "$node_folder/installed-lock.json"
fi
echo "peers: all there"
