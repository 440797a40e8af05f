# The verbs that make, show and delete clusters. Sourced, not run.

# options VERB ARGUMENT...: NAME, WORKERS, GPUS, FAST, AUDIT, PURGE from the command line.
options() {
  local verb=$1; shift
  NAME="" WORKERS="" GPUS="" FAST="" AUDIT="" PURGE=""
  while [ $# -gt 0 ]; do
    case "$verb $1" in
      "up --name" | "down --name" | "env --name") NAME=${2:-}; [[ $NAME =~ ^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$ ]] || die "--name wants a DNS label, not '$NAME'"; shift ;;
      "up --workers") WORKERS=${2:-}; [[ $WORKERS =~ ^[0-9]$ ]] || die "--workers wants a number from 0 to 9, not '$WORKERS'"; shift ;;
      "up --gpus") GPUS=${2:-}; [[ $GPUS =~ ^[0-9]{1,2}$ ]] || die "--gpus wants a number from 0 to 99, not '$GPUS'"; shift ;;
      "up --fast-node-loss") FAST=yes ;;
      "up --audit") AUDIT=yes ;;
      "down --purge") PURGE=yes ;;
      *) usage >&2; die "$verb does not know '$1'" ;;
    esac
    shift
  done
}

kubeconfig_of() { echo "$CLUSTERS/$1/kubeconfig"; }
k() { timeout 60 "$KUBECTL" --kubeconfig "$(kubeconfig_of "$NAME")" --request-timeout=20s "$@"; }
nodes() { timeout 60 "$KIND" get nodes --name "$NAME" -q 2>/dev/null | sort; }

cluster_config() {
  local i
  echo 'kind: Cluster'
  echo 'apiVersion: kind.x-k8s.io/v1alpha4'
  echo 'nodes:'
  echo '- role: control-plane'
  [ -z "$AUDIT" ] || printf '  extraMounts:\n  - {hostPath: "%s", containerPath: /etc/kubernetes/chorus-audit, readOnly: true}\n' "$HERE/config/audit"
  for ((i = 0; i < WORKERS; i++)); do echo '- role: worker'; done
  cat "$HERE/config/registry.yaml" "$HERE/config/kubelet.yaml"
  [ -z "$FAST" ] || cat "$HERE/config/fast-node-loss.yaml"
  [ -z "$AUDIT" ] || cat "$HERE/config/audit.yaml"
}

create_cluster() {
  local directory=$CLUSTERS/$NAME
  WORKERS=${WORKERS:-1}
  need_disk $((4 + 8 * (WORKERS > 0 ? WORKERS : 1)))      # every node with pods unpacks the trainer's image
  mkdir -p "$directory"
  cluster_config >"$directory/kind.yaml"
  echo "${FAST:-no}" >"$directory/fast-node-loss"
  echo "${AUDIT:-no}" >"$directory/audit"
  if own_nodes; then echo "$KUBERNETES" >"$directory/kubernetes"; fi
  say "cluster $NAME, $WORKERS worker(s)$(! own_nodes || echo ", Kubernetes $KUBERNETES")"
  timeout 600 "$KIND" create cluster --name "$NAME" --kubeconfig "$(kubeconfig_of "$NAME")" --config "$directory/kind.yaml" --wait 240s -q \
    ${NODE_IMAGE:+--image "$NODE_IMAGE"} >&2 || {
    timeout 120 "$KIND" delete cluster --name "$NAME" -q >/dev/null 2>&1 || true
    rm -rf "$directory"
    die "kind could not make the cluster: see above; 'kind/cluster status' tells memory and disk"
  }
}

# take_cluster: the cluster that is there, if it is what was asked for.
take_cluster() {
  local have node
  have=$(nodes | grep -vc -e '-control-plane$' || true)
  [ "${WORKERS:-0}" -le "$have" ] || die "cluster $NAME has $have worker(s), not $WORKERS: kind/cluster down --name $NAME, and up again"
  [ -z "$FAST" ] || [ "$(cat "$CLUSTERS/$NAME/fast-node-loss")" = yes ] || die "cluster $NAME is not fast in losing nodes: kind/cluster down --name $NAME, and up again"
  [ -z "$AUDIT" ] || [ "$(cat "$CLUSTERS/$NAME/audit" 2>/dev/null)" = yes ] || die "cluster $NAME keeps no audit log: kind/cluster down --name $NAME, and up again"
  for node in $(nodes); do
    [ "$(engine inspect -f '{{.State.Running}}' "$node")" = true ] || { say "start $node"; timeout 60 "$ENGINE" start "$node" >/dev/null; }
  done
  until_ok 90 "cluster $NAME does not answer: kind/cluster down --name $NAME, and up again" k get --raw /readyz
}

wire_registry() {
  local node directory=/etc/containerd/certs.d/localhost:$REGISTRY_PORT
  engine network connect kind "$REGISTRY_NAME" >/dev/null 2>&1 || true      # already connected
  for node in $(nodes); do
    engine exec "$node" mkdir -p "$directory"
    printf '[host."http://%s:5000"]\n' "$REGISTRY_NAME" | engine exec -i "$node" cp /dev/stdin "$directory/hosts.toml"
  done
}

cluster_ready() {
  local what
  timeout 200 "$KUBECTL" --kubeconfig "$(kubeconfig_of "$NAME")" wait --for=condition=Ready nodes --all --timeout=180s >/dev/null ||
    die "not every node of $NAME is Ready after 3 minutes: kubectl --kubeconfig $(kubeconfig_of "$NAME") describe nodes"
  for what in kube-system/coredns local-path-storage/local-path-provisioner; do
    timeout 200 "$KUBECTL" --kubeconfig "$(kubeconfig_of "$NAME")" -n "${what%/*}" rollout status "deployment/${what#*/}" --timeout=180s >/dev/null ||
      die "$what is not available after 3 minutes: kubectl --kubeconfig $(kubeconfig_of "$NAME") -n ${what%/*} describe pods"
  done
}

# pretend_gpus: the kubelet keeps what is patched into the status, and admits pods by it.
pretend_gpus() {
  [ -n "$GPUS" ] || return 0
  local node on
  on=$(nodes | grep -v -e '-control-plane$' || nodes)
  for node in $on; do
    k patch node "$node" --subresource=status --type=merge \
      -p "{\"status\":{\"capacity\":{\"nvidia.com/gpu\":\"$GPUS\"},\"allocatable\":{\"nvidia.com/gpu\":\"$GPUS\"}}}" >/dev/null
  done
}

link_tools() {
  mkdir -p "$TOOLS"
  ln -sf "$KUBECTL" "$TOOLS/kubectl"; ln -sf "$KIND" "$TOOLS/kind"
  [ "$MODE" != own ] || ln -sf "$ENGINE" "$TOOLS/docker"
}

# A cluster of another version than the one that is asked for is not taken. Where the nodes are ours, there is a default.
check_made() {
  local has
  has=$(cat "$CLUSTERS/$NAME/kubernetes" 2>/dev/null) || return 0
  [ "$has" = "$KUBERNETES" ] || die "cluster $NAME has Kubernetes $has, not $KUBERNETES: set KUBERNETES=$has to use it, or kind/cluster down --name $NAME, and up again"
}
check_served() { # KUBECTL...
  local has
  [ -n "$ASKED" ] || return 0
  has=$("$@" get --raw /version | sed -n 's/.*"minor": *"\([0-9]*\).*/1.\1/p')
  [ "$has" = "$ASKED" ] || die "the cluster has Kubernetes $has, not $ASKED: unset KUBERNETES to use it"
}

engine_and_registry() { need_engine; registry_up; }

is_there() { timeout 60 "$KIND" get clusters -q 2>/dev/null | grep -qx "$NAME"; }

# make_parts: what takes minutes when nothing is kept. Nobody else's use of the engine waits for it: images are made meanwhile.
make_parts() {
  have_kind
  have_kubectl
  is_there || node_image
}

make_cluster() {
  local there=""
  need_engine
  have_kind
  ! is_there || there=yes
  [ -z "$there" ] || check_made
  have_kubectl
  registry_up
  if [ -n "$there" ] && [ -e "$(kubeconfig_of "$NAME")" ]; then take_cluster; else
    [ -z "$there" ] || [ "$MODE" != host ] || die "there is a kind cluster $NAME that is not ours: choose another --name"
    timeout 120 "$KIND" delete cluster --name "$NAME" -q >/dev/null 2>&1 || true
    node_image
    create_cluster
  fi
  wire_registry
  cluster_ready
  own_nodes || check_served k
  pretend_gpus
  link_tools
}

# gigabytes_to_come: what is still to be made for a cluster with one worker. The demo from nothing filled 33 in all: 14 in the engine (layers, build
# cache, registry), 7 for programs (Go's two caches, node image), 6 for Python's environment, the rest for the nodes. More workers ask for more later.
gigabytes_to_come() {
  local sum=12
  [ "$MODE" != own ] || [ -d "$ARTEFACTS/node-image-$KUBERNETES" ] || sum=$((sum + 7))
  [ "$MODE" = own ] && [ -d "$DATA/image" ] || sum=$((sum + 15))
  echo "$sum"
}

# verb_check: what `up` would need and only finds out later.
verb_check() {
  find_kubernetes
  [ "$MODE" != external ] || return 0
  [ "$MODE" = own ] || [ -z "$ASKED" ] || [ -n "${KIND_NODE_IMAGE:-}" ] ||
    die "KUBERNETES chooses among node images that are made here; your engine takes kind's: set KIND_NODE_IMAGE to one with Kubernetes $ASKED"
  if [ "$MODE" = own ]; then need_own_engine; need_go; fi
  [ -n "$(ls "$CLUSTERS" 2>/dev/null)" ] || need_disk "$(gigabytes_to_come)"
}

verb_up() {
  options up "$@"
  NAME=${NAME:-chorus}
  find_kubernetes
  if [ "$MODE" = external ]; then
    have_kubectl
    timeout 30 "$KUBECTL" get --raw /readyz >/dev/null || die "the cluster that KUBECONFIG names does not answer: unset KUBECONFIG to have one made"
    check_served timeout 30 "$KUBECTL"
    say "the cluster of KUBECONFIG is used: nothing is made"
    return
  fi
  verb_check
  with_machine engine_and_registry
  make_parts
  with_machine make_cluster
  say "ready: eval \"\$(kind/cluster env$([ "$NAME" = chorus ] || echo " --name $NAME"))\""
}

verb_env() {
  options env "$@"
  NAME=${NAME:-chorus}
  if [ "$MODE" = external ]; then printf 'export KUBECONFIG=%q\n' "$KUBECONFIG"; return; fi
  [ -e "$(kubeconfig_of "$NAME")" ] || die "there is no cluster $NAME: kind/cluster up --name $NAME"
  printf 'export KUBECONFIG=%q\n' "$(kubeconfig_of "$NAME")"
  case ":$PATH:" in *":$TOOLS:"*) ;; *) printf 'export PATH=%q:"%sPATH"\n' "$TOOLS" '$' ;; esac
  [ "$MODE" != own ] || printf 'export DOCKER_HOST=%q\n' "$OWN_SOCKET"
}

verb_load() {
  [ $# -gt 0 ] || die "load wants the names of images"
  local image
  with_machine need_engine
  with_machine registry_up
  for image; do push "$image"; done
}

# image_variable NAME: the variable that holds an image's reference.
image_variable() { local name=${1^^}; echo "CHORUS_${name//-/_}_IMAGE"; }
verb_images() {
  local wanted=("$@") name reference
  [ ${#wanted[@]} -gt 0 ] || wanted=(operator trainer)
  if [ "$MODE" = external ]; then
    for name in "${wanted[@]}"; do
      reference=$(image_variable "$name")
      if [ -n "${!reference:-}" ]; then echo "export $reference=${!reference}"
      elif [[ $name == plugin-* ]]; then say "$reference is not set: what needs that image is left out"
      else need_engine; fi
    done
    return
  fi
  locked 9 images
  with_machine need_engine
  with_machine registry_up
  make_images "${wanted[@]}"
  for name in "${wanted[@]}"; do echo "export $(image_variable "$name")=$(cat "$MADE/$name")"; done
}

delete_clusters() { # NAME...
  local name
  for name; do
    say "delete cluster $name"
    timeout 180 "$KIND" delete cluster --name "$name" -q >&2 || die "cluster $name could not be deleted: see above"
    rm -rf "${CLUSTERS:?}/$name"
  done
}

stop_all() {
  engine rm -f "$REGISTRY_NAME" >/dev/null 2>&1 || true
  if [ "$MODE" = own ]; then stop_own_engine; fi
  rm -rf "$TOOLS"
}

purge() {
  rm -rf "$BLOBS"
  if [ "$MODE" = own ]; then rm -rf "$DATA"; return; fi
  engine volume rm "$REGISTRY_NAME" >/dev/null 2>&1 || true
  engine image ls --format '{{.Repository}}:{{.Tag}}' | grep -e "^\(localhost/\)\{0,1\}chorus-" -e "^$REGISTRY/chorus-" | xargs -r "$ENGINE" image rm -f >/dev/null
}

delete_and_stop() {
  local ours=()
  mkdir -p "$CLUSTERS"
  mapfile -t ours < <(ls "$CLUSTERS")
  if [ -n "$NAME" ]; then
    if [ -d "$CLUSTERS/$NAME" ]; then ours=("$NAME"); else say "there is no cluster $NAME"; ours=(); fi
  fi
  if [ "$MODE" = own ] && ! own_engine_runs; then       # a crash: what is left of the engine goes, its clusters with it
    stop_own_engine; rm -rf "$CLUSTERS"
  else
    if [ "$MODE" = own ]; then own_engine; fi
    if [ ${#ours[@]} -gt 0 ]; then have_kind; delete_clusters "${ours[@]}"; fi      # interrupted early, `up` had not built kind
    [ -n "$(ls "$CLUSTERS")" ] || stop_all
  fi
  [ -z "$PURGE" ] || [ -n "$(ls "$CLUSTERS" 2>/dev/null)" ] || purge
}

verb_down() {
  options down "$@"
  if [ "$MODE" = external ]; then say "the cluster of KUBECONFIG is yours: nothing to do"; return; fi
  with_machine delete_and_stop
}

verb_status() {
  local name directory
  case $MODE in
    external) echo "engine    none: KUBECONFIG names $KUBECONFIG"; return ;;
    host) echo "engine    the machine's own $ENGINE" ;;
    own) if own_engine_runs; then own_engine; echo "engine    ours, pid $(cat "$RUN/engine.pid"), $OWN_SOCKET"; else echo "engine    not running"; fi ;;
  esac
  if registry_answers >/dev/null 2>&1; then echo "registry  $REGISTRY"; else echo "registry  not running"; fi
  for directory in "$CLUSTERS"/*/; do
    [ -e "$directory/kubeconfig" ] || continue
    name=$(basename "$directory")
    echo "cluster   $name: $("$TOOLS/kubectl" --kubeconfig "$directory/kubeconfig" --request-timeout=5s get nodes --no-headers 2>&1 |
      awk '$2 == "Ready" {n++} END {print n + 0 " of " NR " nodes Ready"}'), KUBECONFIG=${directory}kubeconfig"
  done
  echo "cache     $CACHE: $(timeout 60 du -sh "$CACHE" 2>/dev/null | cut -f1), $(df -Ph "$CACHE" | awk 'NR==2 {print $4}') free on the disk"
}
