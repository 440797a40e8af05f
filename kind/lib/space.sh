# What our own engine keeps on the disk, bounded: each build and each crash leaves something there. Sourced, not run.
KEPT_BUILD_CACHE=12gb      # the layers of all images and pip's wheels are 11

# tidy_engine: removes what nothing will use again. The engine has just been started, so that nothing of ours is under way in it.
tidy_engine() {
  local container cluster repository
  engine ps -aq --no-trunc --filter label=io.x-k8s.kind.cluster --format '{{.ID}} {{.Label "io.x-k8s.kind.cluster"}}' |
    while read -r container cluster; do
      [ -e "$(kubeconfig_of "$cluster")" ] || { say "remove a node of cluster $cluster, which a crash left"; engine rm -fv "$container" >/dev/null; }
    done
  # Only volumes without a name: engines before version 23 prune those with one, as the registry's, too.
  engine volume ls -qf dangling=true | { grep -xE '[0-9a-f]{64}' || true; } | xargs -r "$ENGINE" volume rm >/dev/null
  engine image ls --format '{{.Repository}}' | { grep -e '^chorus-' -e "^$REGISTRY/chorus-" || true; } | sort -u |
    while read -r repository; do keep_newest "$repository" $([[ $repository == "$REGISTRY"/* ]] && echo 1 || echo 2); done
  engine image prune -f >/dev/null
  engine builder prune -f --keep-storage "$KEPT_BUILD_CACHE" >/dev/null
  [ ! -d "$ARTEFACTS" ] || find "$ARTEFACTS" -mindepth 2 -maxdepth 2 -type d -mtime +30 -exec rm -rf {} +      # `artefact` touches what it gives
}

# keep_newest REPOSITORY COUNT: of nodes' images two, for 1.34 and 1.36 have their own. Of what was pushed one: layers that a checkout beside this one
# needs are in the build cache. What runs stays.
keep_newest() {
  engine image ls --format '{{.Repository}}:{{.Tag}}' "$1" | { grep -v ':<none>$' || true; } | tail -n +$(($2 + 1)) | xargs -r "$ENGINE" image rm >/dev/null 2>&1 || true
}

# trim_registry IMAGE: leaves the two newest tags of each repository in the registry's volume, and their layers. The registry does not run.
trim_registry() {
  local repositories=$DATA/volumes/$REGISTRY_NAME/_data/docker/registry/v2/repositories tags old
  [ -d "$repositories" ] || return 0
  # shellcheck disable=SC2012  # names are our own: digits of digests
  old=$(for tags in "$repositories"/*/_manifests/tags; do ls -td "$tags"/* 2>/dev/null | tail -n +3; done)
  [ -n "$old" ] || return 0
  say "remove what was pushed before from the registry"
  xargs rm -rf <<<"$old"
  timeout 300 "$ENGINE" run --rm -v "$REGISTRY_NAME:/var/lib/registry" "$1" garbage-collect --delete-untagged /etc/distribution/config.yml >/dev/null ||
    die "the registry's volume could not be cleaned: see above; 'kind/cluster down --purge' makes a new one"
}
