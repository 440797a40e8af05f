# Programs built from Go modules: kind/modules/FAMILY/go.mod names and pins them, go.sum pins every byte. Sourced, not run.

# module_files FAMILY...: FILES are what pins them.
module_files() { local family; FILES=(); for family; do FILES+=("$HERE/modules/$family/go.mod" "$HERE/modules/$family/go.sum"); done; }
version_of() { sed -n "s|^\(require \)\{0,1\}[[:space:]]*$2 v\([^ ]*\).*|\2|p" "$HERE/modules/$1/go.mod" | head -1; }   # FAMILY MODULE

# go_build FAMILY OUT [PACKAGE...]: without packages, every tool of the family. One build at a time: they share a cache and the cores.
go_build() {
  local family=$1 out=$2 tags="" flags="-s -w" package version; shift 2
  if [ "$family" = kubernetes ]; then       # the version is stamped in: kubeadm derives image tags from it
    version=$(version_of kubernetes k8s.io/kubernetes) tags=selinux,notest,grpcnotrace
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
      flags="$flags -X $package.gitVersion=v$version -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$version")"
      flags="$flags -X $package.gitTreeState=clean -X $package.buildDate=1970-01-01T00:00:00Z"
    done
  fi
  mkdir -p "$out"
  locked 7 go
  say "building $family ${*##*/}"
  (cd "$HERE/modules/$family" && CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly \
    nice timeout --foreground 2400 go build -trimpath -buildvcs=false -tags "$tags" -ldflags "$flags" -o "$out/" "${@:-tool}") >&2 ||
    die "building $family failed or took over 40 minutes: see above (Go $(go env GOVERSION), modules by $(go env GOPROXY))"
  unlocked 7
}

build_api() {
  local k=k8s.io/kubernetes/cmd
  go_build kubernetes "$1" $k/kube-apiserver $k/kube-controller-manager $k/kubectl
  go_build etcd "$1/etcd.d"
  mv "$1"/etcd.d/* "$1/etcd" && rmdir "$1/etcd.d"
}
# api_binaries: DIR with etcd, kube-apiserver, kube-controller-manager, kubectl.
api_binaries() { need_go; module_files kubernetes etcd; artefact api build_api "$HERE/lib/binaries.sh" "${FILES[@]}"; }

build_node_binaries() {
  local k=k8s.io/kubernetes/cmd
  go_build kubernetes "$1" $k/kube-scheduler $k/kube-proxy $k/kubelet $k/kubeadm
  go_build coredns "$1"
  go_build containerd "$1"
  go_build crictl "$1"
  go_build cni "$1/cni"
  go_build storage "$1"
}
node_binaries() {
  need_go; module_files kubernetes coredns containerd crictl cni storage
  artefact node-binaries build_node_binaries "$HERE/lib/binaries.sh" "${FILES[@]}"
}

build_registry() { go_build registry "$1" .; }
registry_binary() { need_go; module_files registry; artefact registry build_registry "$HERE/lib/binaries.sh" "$HERE/modules/registry/main.go" "${FILES[@]}"; }

build_kind() { go_build kind "$1"; }
# have_kind: KIND is the program, from PATH if it is there.
have_kind() {
  if [ "$MODE" = host ] && command -v kind >/dev/null; then KIND=$(command -v kind); else
    need_go; module_files kind; artefact kind build_kind "$HERE/lib/binaries.sh" "${FILES[@]}"; KIND=$DIR/kind
  fi
}
have_kubectl() {
  if [ "$MODE" != own ] && command -v kubectl >/dev/null; then KUBECTL=$(command -v kubectl); else api_binaries; KUBECTL=$DIR/kubectl; fi
}
