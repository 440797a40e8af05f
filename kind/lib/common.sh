# Places, messages, locks and the artefact cache that every part of kind/cluster shares. Sourced, not run.
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/chorus
ARTEFACTS=$CACHE/kind          # what was built: one directory a key
RUN=$CACHE/run                 # what runs now: pids, sockets, logs
DATA=$CACHE/engine-data        # images, build cache and the registry's volume of our own engine
BLOBS=$CACHE/blobs             # what each layer became in the registry: see push.py
CLUSTERS=$CACHE/clusters       # one directory a cluster, with its kubeconfig
LOCKS=$CACHE/locks
TOOLS=$CACHE/path              # kubectl, kind and docker as `env` puts them in PATH
OWN_SOCKET=unix://$RUN/docker.sock
ROOT=$(cd "$HERE/.." && pwd)

say() { printf '%s  %s\n' "$(date +%T)" "$*" >&2; }
die() { printf 'kind/cluster: %s\n' "$*" >&2; exit 1; }

# timeout: in the caller's process group. Else Ctrl-C and a signal to the group would not reach what it runs.
timeout() { command timeout --foreground "$@"; }

# until_ok SECONDS WHAT COMMAND...: runs COMMAND until it succeeds; dies with WHAT when the time is over.
until_ok() {
  local deadline=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || die "$what"
    sleep 0.2
  done
}

# locked FD NAME: takes the lock NAME on FD, or dies after an hour. It ends with the process or when FD is closed.
locked() {
  mkdir -p "$LOCKS"
  eval "exec $1>\"\$LOCKS/$2\""
  flock -n "$1" || { say "waiting for another kind/cluster that holds the lock $2"; flock -w 3600 "$1" || die "the lock $LOCKS/$2 is held for an hour: see 'fuser -v $LOCKS/$2'"; }
}
unlocked() { eval "exec $1>&-"; }

# digest INPUT...: 16 digits of the content of files, without the comments of shell scripts; =TEXT is text itself.
digest() {
  local input
  for input; do
    case $input in
      =*) printf '%s\n' "$input" ;;
      *.sh) printf '%s\n' "${input##*/}"; sed '/^[[:space:]]*#\( \|$\)/d' "$input" ;;
      *) printf '%s\n' "${input##*/}"; cat "$input" ;;
    esac
  done | sha256sum | cut -c1-16
}

# artefact NAME BUILD INPUT...: sets DIR to what the function BUILD makes of the INPUTs. Built once in a temporary directory, then renamed;
# this key, the one used before it, and what runs are kept.
artefact() {
  local name=$1 build=$2 work; shift 2
  DIR=$ARTEFACTS/$name/$(digest "$@")
  if [ ! -d "$DIR" ]; then
    locked 8 "artefact-$name"
    if [ ! -d "$DIR" ]; then
      mkdir -p "$ARTEFACTS/$name"
      rm -rf "$ARTEFACTS/$name"/.new-*
      work=$(mktemp -d "$ARTEFACTS/$name/.new-XXXXXX")
      chmod 755 "$work"
      "$build" "$work"
      mv -T "$work" "$DIR"
    fi
    unlocked 8
  fi
  touch "$DIR"
  local old
  # shellcheck disable=SC2012  # names are our own hex keys
  ls -t "$ARTEFACTS/$name" | tail -n +3 | while read -r old; do
    in_use "$ARTEFACTS/$name/$old" || rm -rf "${ARTEFACTS:?}/$name/$old"
  done
}
# in_use DIRECTORY: the engine runs from there, or a caller's PATH leads there.
in_use() {
  local used
  used=$(cat "$RUN/engine-dir" 2>/dev/null || true; find "$TOOLS" -type l -printf '%l\n' 2>/dev/null || true)
  [[ $'\n'$used == *$'\n'"$1"/* ]]
}

# with_machine COMMAND...: one at a time of what starts or stops engine, registry and clusters.
with_machine() { locked 6 machine; "$@"; unlocked 6; }
