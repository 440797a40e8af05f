# What the machine must have, each lack with the way to get it. Sourced, not run.

# packages COMMAND:PACKAGE...: installs what is missing where that is ours to do (root on Debian), else says what to install.
packages() {
  local pair missing=()
  for pair; do command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then die "missing: ${missing[*]}. Install them (Debian: sudo apt-get install ${missing[*]})"; fi
  say "installing ${missing[*]}"
  package_lists
  DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -qy --no-install-recommends "${missing[@]}" >&2 || die "apt-get install ${missing[*]} failed: see above"
}

# package_lists: fetches the lists of Debian's packages when there are none.
package_lists() {
  # shellcheck disable=SC2016  # apt's own variable
  [ -n "$(apt-get indextargets --format '$(FILENAME)' 'Created-By: Packages' | xargs -r ls -d 2>/dev/null)" ] && return
  timeout 300 apt-get update -q >&2 || die "apt-get update failed: the cluster's engine and node are made of Debian packages"
}

need_go() {
  command -v go >/dev/null || die "Go 1.26.8 or newer is needed to build Kubernetes from its modules: unpack it from go.dev/dl and put its bin into PATH"
  local version
  version=$(cd "$PROGRAMS" && go env GOVERSION 2>&1) || die "this Go does not do: $version"
}

need_disk() { # GIGABYTES
  mkdir -p "$CACHE"
  local free
  free=$(df -Pk "$CACHE" | awk 'NR==2 {print int($4 / 1000000)}')
  [ "$free" -ge "$1" ] || die "$free GB are free at $CACHE, $1 are needed (images of 5.5 GB in the engine, the registry and each node): free some ('kind/cluster status' names clusters that are still there), or set XDG_CACHE_HOME"
}

os_release() { (. /etc/os-release && echo "${!1:-}"); }

# need_own_engine: an engine of our own can only be made by root on Debian.
need_own_engine() {
  local how="start a container engine (docker or podman) or set KUBECONFIG to a cluster of yours"
  [ "$(uname -sm)" = "Linux x86_64" ] || die "no container engine runs here, and one can be made on Linux x86_64 only: $how"
  [ "$(os_release ID)" = debian ] || die "no container engine runs here, and one can be made from Debian's packages only: $how"
  [ "$(id -u)" = 0 ] || die "no container engine runs here, and making one needs root: $how"
  [ "$(os_release VERSION_CODENAME)" = bookworm ] || say "Debian $(os_release VERSION_CODENAME): the engine was proven on bookworm only"
  local memory
  memory=$(awk '/MemTotal/ {print int($2 / 1000000)}' /proc/meminfo)
  [ "$memory" -ge 5 ] || die "$memory GB of memory: building Kubernetes and running a cluster need 6"
  packages mmdebstrap:mmdebstrap nft:nftables iptables:iptables ip:iproute2 python3:python3 xz:xz-utils zstd:zstd
}
