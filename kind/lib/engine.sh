# The container engine: the machine's own, or one unpacked from Debian's packages that runs in namespaces of its own. Sourced, not run.
BRIDGE=${CHORUS_BRIDGE:-10.88.0.1/24}    # our engine's default bridge: docker build
POOL=${CHORUS_POOL:-10.89.0.0/16}        # networks of the clusters
SYSCTLS="net.ipv4.ip_forward vm.overcommit_memory kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes fs.inotify.max_user_instances"

# engine ARGUMENT...: docker or podman. Podman speaks the same commands as far as they are used here.
engine() { "$ENGINE" "$@"; }

# find_mode: MODE is external (KUBECONFIG of the user's), host (the machine's engine) or own.
find_mode() {
  ENGINE=docker
  case ${KUBECONFIG:-} in
    "" | "$CLUSTERS"/*) ;;
    *) MODE=external; return ;;
  esac
  if [ "${DOCKER_HOST:-}" != "$OWN_SOCKET" ] && command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1; then MODE=host; return; fi
  if command -v podman >/dev/null && timeout 20 podman info >/dev/null 2>&1; then
    MODE=host ENGINE=podman; export KIND_EXPERIMENTAL_PROVIDER=podman; return
  fi
  MODE=own
  export DOCKER_HOST=$OWN_SOCKET DOCKER_BUILDKIT=1
}

# own_engine: puts the engine's programs into PATH: those that run now, or those of this checkout.
own_engine() {
  if own_engine_runs; then ENGINE_DIR=$(cat "$RUN/engine-dir"); else
    coredns_program
    COREDNS=$DIR
    artefact engine build_engine "=$(declare -f build_engine)" "$HERE/runc-wrap" "=$(basename "$COREDNS")"
    ENGINE_DIR=$DIR/docker
  fi
  export PATH=$ENGINE_DIR/usr/bin:$ENGINE_DIR/usr/sbin:$PATH:/usr/sbin:/sbin
  ENGINE=$ENGINE_DIR/usr/bin/docker
}

own_engine_runs() {
  [ -S "${OWN_SOCKET#unix://}" ] && [ -e "$RUN/engine-dir" ] && timeout 20 "$(cat "$RUN/engine-dir")/usr/bin/docker" --host "$OWN_SOCKET" version >/dev/null 2>&1
}

# Clusters have no way out, and the resolver below knows no name for them: what is asked from outside fails at once instead of timing out.
# docker build goes out through this machine, as its package installers must.
write_resolver() {
  cat >"$RUN/Corefile" <<END
. {
  bind ${BRIDGE%/*}
  view clusters {
    expr incidr(client_ip(), '$POOL')
  }
  template ANY ANY {
    rcode NXDOMAIN
  }
}
. {
  bind ${BRIDGE%/*}
  forward . /etc/resolv.conf
}
END
}

# The engine lives in mount and pid namespaces of its own: one kill ends it, its shims and every container. Its firewall rules are off (published
# ports go through docker-proxy), so the machine's own tables stay as they were.
start_own_engine() {
  own_engine
  own_engine_runs && return
  [ ! -e "$RUN/engine.pid" ] || stop_own_engine      # what a crash left
  [ ! -e /sys/class/net/docker0 ] || die "a bridge docker0 is there but no engine answers: start that engine (systemctl start docker), or remove the bridge (ip link del docker0)"
  say "container engine"
  mkdir -p "$RUN" "$DATA"
  local name cgroup
  for name in $SYSCTLS; do echo "$name=$(sysctl -n "$name")"; done >"$RUN/sysctls"      # stop_own_engine puts them back
  [ "$(sysctl -n fs.inotify.max_user_instances)" -ge 1024 ] || sysctl -qw fs.inotify.max_user_instances=1024
  [ -d /lib/modules ] || { mkdir -p /lib/modules; touch "$RUN/made-lib-modules"; }      # kind mounts it into the nodes
  echo starting >"$RUN/engine.pid"
  echo "$ENGINE_DIR" >"$RUN/engine-dir"
  cgroup=chorus-$(digest "=$CACHE" | cut -c1-8)      # of its own, so that stopping it touches no other engine's
  echo "$cgroup" >"$RUN/cgroup"
  ip link add docker0 type bridge; ip addr add "$BRIDGE" dev docker0; ip link set docker0 up
  nft "table ip chorus_kind { chain out { type nat hook postrouting priority srcnat; ip saddr $BRIDGE oifname != docker0 masquerade; }; }"
  write_resolver
  rm -f "$RUN/docker.pid"
  # shellcheck disable=SC2016  # expanded by the inner shell
  setsid unshare --mount --pid --fork --mount-proc --kill-child sh -c 'coredns -conf "$0" & exec "$@"' "$RUN/Corefile" \
    dockerd --host "$OWN_SOCKET" --pidfile "$RUN/docker.pid" --data-root "$DATA" --exec-root "$RUN/exec" \
    --iptables=false --ip6tables=false --oom-score-adjust=0 --storage-driver overlay2 \
    --add-runtime "chorus=$ENGINE_DIR/usr/bin/runc-wrap" --default-runtime chorus --cgroup-parent "/$cgroup" \
    --bip "$BRIDGE" --dns "${BRIDGE%/*}" --default-address-pool "base=$POOL,size=24" </dev/null >"$RUN/dockerd.log" 2>&1 6>&- 7>&- 8>&- 9>&- &
  echo $! >"$RUN/engine.pid"
  until_ok 60 "the engine does not answer: its last words are in $RUN/dockerd.log" own_engine_runs
  tidy_engine
}

stop_own_engine() {
  [ -e "$RUN/engine.pid" ] || return 0
  local outer inner name cgroup
  outer=$(cat "$RUN/engine.pid")
  if grep -qs dockerd "/proc/$outer/cmdline"; then
    inner=$(ps -o pid= --ppid "$outer" | tr -d ' ')       # dockerd, first process of its pid namespace; unshare itself ignores SIGTERM
    kill "$inner" 2>/dev/null
    for _ in $(seq 100); do [ -d "/proc/$inner" ] || break; sleep 0.2; done
    [ ! -d "/proc/$inner" ] || kill -KILL "$inner" 2>/dev/null
    for _ in $(seq 50); do [ -d "/proc/$outer" ] || break; sleep 0.1; done
  fi
  for name in $(ip -br link show type bridge | sed -n 's/^\(docker0\|br-[0-9a-f]\{12\}\) .*/\1/p'); do ip link del "$name"; done
  nft delete table ip chorus_kind 2>/dev/null || true
  [ ! -e "$RUN/sysctls" ] || sysctl -qp "$RUN/sysctls"
  [ ! -e "$RUN/made-lib-modules" ] || rmdir /lib/modules 2>/dev/null || true
  cgroup=$(cat "$RUN/cgroup" 2>/dev/null || echo chorus-none)
  for name in /sys/fs/cgroup/*/"$cgroup" /sys/fs/cgroup/"$cgroup"; do
    [ ! -d "$name" ] || find "$name" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  rm -rf "$RUN"
}

# need_engine: an engine that answers, whichever it is.
need_engine() {
  [ "$MODE" != external ] || die "KUBECONFIG names a cluster of yours, so no engine is used: give the images to that cluster's registry yourself and set CHORUS_OPERATOR_IMAGE and CHORUS_TRAINER_IMAGE"
  [ "$MODE" = own ] || return 0
  need_own_engine
  start_own_engine
}
