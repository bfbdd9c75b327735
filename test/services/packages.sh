#!/usr/bin/env bash
# Gets what the tests start beside the product and this machine lacks, where it has Debian's packages: PostgreSQL, Redis, strace. Whoever is not root is told.
set -euo pipefail
need=()
command -v strace >/dev/null || need+=(strace)
command -v redis-server >/dev/null || need+=(redis-server)
command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need+=(postgresql)
[ ${#need[@]} -gt 0 ] || exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "installing ${need[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${need[@]}" >/dev/null
else
  echo "not there, and tests that need it are skipped: ${need[*]} (Debian: apt-get install ${need[*]})"
fi
