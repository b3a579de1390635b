# What scripts of tests install, for scripts to source: Debian's packages, without starting any
# service. Wants `say` and `scratch`, and `allow_services` to be called when the script ends.

may_install() { [ "${TESTS_INSTALL:-1}" != 0 ]; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_install() {
  may_install && command -v apt-get >/dev/null || return 1
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || return 1
  say "installing $* (apt-get)"
  as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# A package of a server starts it, unless this file says that nothing may be started.
policy=/usr/sbin/policy-rc.d
policy_is_ours=no

forbid_services() {
  if [ -e "$policy" ]; then return 0; fi
  printf '#!/bin/sh\nexit 101\n' >"$scratch/policy-rc.d"
  as_root install -m 755 "$scratch/policy-rc.d" "$policy" && policy_is_ours=yes
}

allow_services() {
  if [ "$policy_is_ours" = yes ]; then
    as_root rm -f "$policy"
    policy_is_ours=no
  fi
}

has_program() {
  PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null
}

# Debian keeps PostgreSQL's programs out of the path.
has_postgres() {
  local program
  for program in /usr/lib/postgresql/*/bin/postgres; do
    if [ -x "$program" ]; then return 0; fi
  done
  has_program postgres && has_program initdb
}
