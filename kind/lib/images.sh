# The project's images and the local registry that gives them to the nodes. Sourced, not run.
REGISTRY_PORT=${CHORUS_REGISTRY_PORT:-5001}
REGISTRY=localhost:$REGISTRY_PORT
REGISTRY_NAME=chorus-registry      # container; its volume has the same name and outlives it

registry_image() { # prints the image, made from its Go module where our engine can pull nothing
  local work tag
  if [ "$MODE" = host ]; then echo "${CHORUS_REGISTRY_IMAGE:-registry:3}"; return; fi
  registry_binary
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
    say "registry $REGISTRY"
    timeout 300 "$ENGINE" run -d --restart=always --name "$REGISTRY_NAME" -p "127.0.0.1:$REGISTRY_PORT:5000" -v "$REGISTRY_NAME:/var/lib/registry" "$image" >/dev/null ||
      die "the registry did not start: see above (CHORUS_REGISTRY_PORT takes another port, CHORUS_REGISTRY_IMAGE another image)"
  fi
  until_ok 60 "nothing answers at $REGISTRY: see '$ENGINE logs $REGISTRY_NAME'" registry_answers
}
registry_answers() { python3 -c 'import sys, urllib.request; urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=3)' "http://$REGISTRY/v2/$*"; }

# push IMAGE: under a tag made of its content, unless the registry has it; prints the reference.
push() {
  local image=$1 id name reference flag=()
  id=$(engine image inspect -f '{{.Id}}' "$image" 2>/dev/null) || die "the engine has no image $image: build it first (eval \"\$(kind/cluster env)\"; docker build -t $image …)"
  id=${id#sha256:} name=${image##*/}
  reference=$REGISTRY/${name%%[:@]*}:${id:0:12}
  if ! registry_answers "${name%%[:@]*}/manifests/${id:0:12}" >/dev/null 2>&1; then
    say "push $reference"
    engine tag "$image" "$reference"
    [ "$ENGINE" != podman ] || flag=(--tls-verify=false)
    nice timeout --foreground 1800 "$ENGINE" push -q "${flag[@]}" "$reference" >/dev/null || die "push of $reference failed or took over 30 minutes: see above, and the disk's free space"
  fi
  echo "$reference"
}

# forget NAME: all but the three newest references of an image go from the engine; the registry keeps what was pushed.
forget() { engine image ls --format '{{.Repository}}:{{.Tag}}' "$REGISTRY/$1" | tail -n +4 | xargs -r "$ENGINE" image rm >/dev/null 2>&1 || true; }

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

# build operator|trainer|plugin-EXAMPLE: as chorus-NAME:dev.
build() {
  local dockerfile context=. base arguments=() index ca=${BUILD_CA:-}
  case $1 in
    operator) dockerfile=operator/Dockerfile ;;
    trainer) dockerfile=trainer_image/Dockerfile ;;
    plugin-*) context=examples/plugins/${1#plugin-} dockerfile=examples/plugins/${1#plugin-}/Dockerfile ;;
    *) dockerfile= ;;
  esac
  [ -f "$ROOT/$dockerfile" ] || die "no image is called $1: operator, trainer, or plugin- and a directory of examples/plugins"
  base=$(base_image)
  [ -z "$base" ] || arguments+=(--build-arg "BASE_IMAGE=$base")
  # What the machine's own package installers need, the build needs too. Secrets: they leave no trace in the image.
  [ -n "$ca" ] || [ "$MODE" != own ] || ca=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}
  [ ! -f "$ca" ] || arguments+=(--secret "id=ca,src=$ca")
  index=${PIP_INDEX_URL:-$(python3 -m pip config get global.index-url 2>/dev/null || true)}
  if [ -n "$index" ]; then
    mkdir -p "$CACHE"; (umask 077; printf %s "$index" >"$CACHE/index"); arguments+=(--secret "id=index,src=$CACHE/index")
  fi
  say "build chorus-$1"
  (cd "$ROOT" && DOCKER_BUILDKIT=1 nice timeout --foreground 1800 "$ENGINE" build -q "${arguments[@]}" -t "chorus-$1:dev" -f "$dockerfile" "$context" >/dev/null) ||
    die "the build of chorus-$1 failed or took over 30 minutes: see above"
}
