# The project's images and the local registry that gives them to the nodes. Sourced, not run.
REGISTRY_PORT=${CHORUS_REGISTRY_PORT:-5001}
REGISTRY=localhost:$REGISTRY_PORT
REGISTRY_NAME=chorus-registry      # container; its volume has the same name and outlives it

registry_image() { # prints the image, made from its Go module where our engine can pull nothing
  local work tag
  if [ "$MODE" = host ]; then echo "${CHORUS_REGISTRY_IMAGE:-registry:3}"; return; fi
  registry_program
  tag=chorus-registry:$(basename "$DIR")
  if ! engine image inspect "$tag" >/dev/null 2>&1; then
    work=$(mktemp -d)
    install -D "$DIR/registry" "$work/root/bin/registry"
    install -Dm644 "$HERE/registry.yml" "$work/root/etc/distribution/config.yml"
    python3 "$HERE/mkimage.py" --entrypoint /bin/registry --command serve --command /etc/distribution/config.yml "$work/image.tar" "$tag" "$work/root"
    timeout 120 "$ENGINE" load -qi "$work/image.tar" >&2
    rm -rf "$work"
  fi
  echo "$tag"
}

registry_up() {
  local image
  if [ "$(engine inspect -f '{{.State.Running}}' "$REGISTRY_NAME" 2>/dev/null)" != true ]; then
    image=$(registry_image)
    engine rm -f "$REGISTRY_NAME" >/dev/null 2>&1 || true
    [ "$MODE" != own ] || trim_registry "$image"
    say "registry $REGISTRY"
    timeout 300 "$ENGINE" run -d --restart=always --name "$REGISTRY_NAME" -p "127.0.0.1:$REGISTRY_PORT:5000" -v "$REGISTRY_NAME:/var/lib/registry" "$image" >/dev/null ||
      die "the registry did not start: see above (CHORUS_REGISTRY_PORT takes another port, CHORUS_REGISTRY_IMAGE another image)"
  fi
  until_ok 60 "nothing answers at $REGISTRY: see '$ENGINE logs $REGISTRY_NAME'" registry_answers
}
# registry_answers [PATH]: without the media types in Accept it denies having a manifest of another kind.
registry_answers() {
  python3 - "http://$REGISTRY/v2/$*" <<'END'
import sys, urllib.request
kinds = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json"
asked = urllib.request.Request(sys.argv[1], headers={"Accept": kinds})
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=3)
END
}

# push IMAGE: under a tag made of its content, unless the registry has it; prints the reference.
push() {
  local image=$1 id name reference
  id=$(engine image inspect -f '{{.Id}}' "$image" 2>/dev/null) || die "the engine has no image $image: build it first (eval \"\$(kind/cluster env)\"; docker build -t $image …)"
  id=${id#sha256:} name=${image##*/}
  reference=$REGISTRY/${name%%[:@]*}:${id:0:12}
  if ! registry_answers "${name%%[:@]*}/manifests/${id:0:12}" >/dev/null 2>&1; then
    say "push $reference"
    engine tag "$image" "$reference"
    push_layers "$id" "$reference" >&2 || die "push of $reference failed or took over 30 minutes: see above, and the disk's free space"
  fi
  echo "$reference"
}

# push_layers ID REFERENCE: in zstd where the engine can, for gzip takes many times as long. Ours knows only gzip: for it there is push.py. A docker of
# the machine's own packs as it is set up.
push_layers() {
  local flag=()
  if [ "$MODE" = own ]; then
    nice timeout --foreground 1800 python3 "$HERE/push.py" --data "$DATA" --memory "$BLOBS" "$1" "$2"
    return
  fi
  if [ "$ENGINE" = podman ]; then
    flag=(--tls-verify=false)
    ! podman push --help | grep -q -e --compression-format || flag+=(--compression-format zstd)
  fi
  nice timeout --foreground 1800 "$ENGINE" push -q "${flag[@]}" "$2" >/dev/null
}


# base_image: prints what the Dockerfiles start from: the public default, or its like from Debian packages where our engine can pull nothing.
base_image() {
  local tag
  if [ -n "${BASE_IMAGE:-}" ]; then echo "$BASE_IMAGE"; return; fi
  [ "$MODE" = own ] || return 0
  image_base
  tag=chorus-base:$(cat "$DIR/id")
  engine image inspect "$tag" >/dev/null 2>&1 || timeout 300 "$ENGINE" load -qi "$DIR/image.tar" >&2
  echo "$tag"
}

# build_arguments: sets BUILD to what each build is told. What the machine's own package installers need, it needs too; as secrets, which leave
# no trace in the image.
build_arguments() {
  local base index ca=${BUILD_CA:-}
  BUILD=()
  base=$(base_image)
  [ -z "$base" ] || BUILD+=(--build-arg "BASE_IMAGE=$base")
  [ -n "$ca" ] || [ "$MODE" != own ] || ca=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}
  [ ! -f "$ca" ] || BUILD+=(--secret "id=ca,src=$ca")
  index=${PIP_INDEX_URL:-$(python3 -m pip config get global.index-url 2>/dev/null || true)}
  if [ -n "$index" ]; then
    mkdir -p "$CACHE"; (umask 077; printf %s "$index" >"$CACHE/index"); BUILD+=(--secret "id=index,src=$CACHE/index")
  fi
}

# build operator|trainer|plugin-EXAMPLE: as chorus-NAME:dev.
build() {
  local dockerfile context=. own=()
  case $1 in
    operator) dockerfile=operator/Dockerfile ;;
    trainer) dockerfile=trainer_image/Dockerfile own=(--build-arg "TORCH_INDEX=${TORCH_INDEX:-}" --build-arg "TORCH_SHA256=${TORCH_SHA256:-}") ;;
    plugin-*) context=examples/plugins/${1#plugin-} dockerfile=examples/plugins/${1#plugin-}/Dockerfile ;;
    *) dockerfile= ;;
  esac
  [ -f "$ROOT/$dockerfile" ] || die "no image is called $1: operator, trainer, or plugin- and a directory of examples/plugins"
  say "build chorus-$1"
  (cd "$ROOT" && DOCKER_BUILDKIT=1 nice timeout --foreground 1800 "$ENGINE" build -q "${BUILD[@]}" "${own[@]}" -t "chorus-$1:dev" -f "$dockerfile" "$context" >/dev/null) ||
    die "the build of chorus-$1 failed or took over 30 minutes: see above"
}

# make_images NAME...: builds and pushes them beside each other, for a build waits for the network where a push has a core busy; sets MADE to a
# directory with each one's reference.
make_images() {
  local name job
  build_arguments
  MADE=$(mktemp -d) JOBS=()
  trap end_images EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
  set -m      # each a process group of its own, so that all of it can be ended
  for name; do
    { build "$name"; push "chorus-$name:dev" >"$MADE/$name"; keep_newest "$REGISTRY/chorus-$name" 1; } &
    JOBS+=("$!")
  done
  set +m
  for job in "${JOBS[@]}"; do wait "$job" || exit 1; done
  JOBS=()
}
end_images() {
  rm -rf "$MADE"
  [ ${#JOBS[@]} -eq 0 ] || kill -- "${JOBS[@]/#/-}" 2>/dev/null || true
}
