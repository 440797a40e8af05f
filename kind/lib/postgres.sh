# PostgreSQL's server, for the tests of databases: the machine's own, or Debian's package unpacked. Sourced, not run.
build_postgres() {
  local package deb
  package_lists
  package=$(apt-cache depends postgresql | sed -n 's/^ *Depends: \(postgresql-[0-9]*\)$/\1/p' | head -1)
  [ -n "$package" ] || die "apt knows no package postgresql: run apt-get update, or install PostgreSQL"
  say "$package from Debian's packages"
  mkdir "$1/debs"
  (cd "$1/debs" && timeout 300 apt-get download -q "$package" "${package/postgresql/postgresql-client}" >/dev/null 2>&1) ||
    die "apt-get download $package failed: run apt-get update and try again"
  for deb in "$1"/debs/*.deb; do dpkg-deb -x "$deb" "$1/root"; done
  rm -r "$1/debs"
  ln -s "root/usr/lib/postgresql/${package#postgresql-}/bin" "$1/bin"
  if ldd "$1/bin/postgres" "$1/bin/initdb" "$1/bin/psql" | grep 'not found' >&2; then
    # shellcheck disable=SC2046  # names of packages
    timeout 600 apt-get install -qy --no-install-recommends $(apt-cache depends "$package" | sed -n 's/^ *Depends: \(lib[^<> ]*\)$/\1/p') >&2 ||
      die "PostgreSQL's libraries could not be installed: see above"
  fi
}
# postgres_binaries: DIR with initdb, postgres, psql and pg_isready.
postgres_binaries() {
  local own
  for own in "$(command -v pg_ctl || true)" /usr/lib/postgresql/*/bin/pg_ctl; do
    [ -x "$own" ] || continue
    DIR=$(dirname "$(readlink -f "$own")")
    [ -x "$DIR/initdb" ] && [ -x "$DIR/postgres" ] && [ -x "$DIR/psql" ] && return
  done
  artefact postgres build_postgres "$HERE/lib/postgres.sh" "=$(os_release VERSION_CODENAME)"
  DIR=$DIR/bin
}
