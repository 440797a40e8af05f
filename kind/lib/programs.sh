# Programs built from Go modules: kind/programs/go.mod names and pins them, go.sum pins every byte. Sourced, not run.
PROGRAMS=$HERE/programs
# In one module with the same tags, what programs share is compiled once. Debug information, which the linker would only throw away, is not
# even made: a tenth of the compiler's work. Another tenth is its garbage collection, hence GOGC.
GO=(env CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly GOGC=400 nice timeout --foreground 2400 go)
GO_BUILD=(-trimpath -buildvcs=false -tags selinux,notest,grpcnotrace,remove_all_sd -gcflags all=-dwarf=false)
GO_LINK="-s -w"
CONTAINERD=(github.com/containerd/containerd/v2/cmd/{containerd,containerd-shim-runc-v2,ctr} sigs.k8s.io/cri-tools/cmd/crictl)
CNI=(github.com/containernetworking/plugins/plugins/{main/bridge,main/loopback,meta/portmap,ipam/host-local})
LATER=(./coredns ./registry sigs.k8s.io/kind "${CONTAINERD[@]}" "${CNI[@]}" github.com/prometheus/prometheus/cmd/promtool helm.sh/helm/v{3,4}/cmd/helm)

# find_kubernetes: KUBERNETES is the minor version that is ASKED for or the default, that of go.mod; MODFILE is the module file that pins it.
ASKED=${KUBERNETES:-}
find_kubernetes() {
  local file known=()
  for file in "$PROGRAMS"/go.mod "$PROGRAMS"/kubernetes-*.mod; do
    MODFILE=$file
    known+=("$(kubernetes_version | cut -d. -f1,2)")
    if [ "${KUBERNETES:-${known[0]}}" = "${known[-1]}" ]; then KUBERNETES=${known[-1]}; return; fi
  done
  die "there is no Kubernetes $KUBERNETES here: KUBERNETES is one of ${known[*]} (kind/README.md says how to add one)"
}
kubernetes_version() { sed -n 's|^[[:space:]]*k8s.io/kubernetes v\([^ ]*\).*|\1|p' "$MODFILE"; }

# go_build OUT PACKAGE...: OUT is a file, or ends in / for a directory. One build at a time: they share a cache and the cores.
go_build() {
  local out=$1 names; shift
  names=${out##*/}
  [ -n "$names" ] || names=${*##*/}
  mkdir -p "${out%/*}"
  locked 7 go
  say "building $names"
  (cd "$PROGRAMS" && exec "${GO[@]}" build "${GO_BUILD[@]}" -ldflags "$GO_LINK" -o "$out" "$@") >&2 ||
    die "building $names failed or took over 40 minutes: see above (Go $(go env GOVERSION), modules by $(go env GOPROXY))"
  unlocked 7
}

# go_fetch PACKAGE...: the modules that they need; it replaces its shell. `go mod download` would fetch those that nothing is built from as well.
go_fetch() { cd "$PROGRAMS" && exec "${GO[@]}" list "${GO_BUILD[@]}" -deps "$@" >/dev/null 6>&- 7>&- 8>&- 9>&-; }

# go_artefact NAME BUILD [SOURCE...]: an artefact of the module, of sources of our own and of how it is built.
go_artefact() {
  local name=$1 build=$2; shift 2
  need_go
  artefact "$name" "$build" "$PROGRAMS/go.mod" "$PROGRAMS/go.sum" "=${GO_BUILD[*]} $GO_LINK" "=$(declare -f "$build")" "$@"
}

# The programs of a control plane and of a node are one, called by links: see its main.go. The version is stamped in: nodes and
# `kubectl version` tell it, and kubeadm derives image tags from it.
build_kubernetes() {
  local package name version later GO_BUILD=("${GO_BUILD[@]}" "-modfile=$MODFILE") GO_LINK=$GO_LINK
  version=$(kubernetes_version)
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    GO_LINK+=" -X $package.gitVersion=v$version -X $package.gitMajor=1 -X $package.gitMinor=${KUBERNETES#*.}"
    GO_LINK+=" -X $package.gitTreeState=clean -X $package.buildDate=1970-01-01T00:00:00Z"
  done
  say "modules of Kubernetes"
  (go_fetch ./kubernetes k8s.io/kubernetes/cmd/kubectl) || die "the modules of Kubernetes could not be fetched: see above (modules by $(go env GOPROXY))"
  (go_fetch -modfile=go.mod "${LATER[@]}" 2>/dev/null) &      # of what comes next, while this compiles
  later=$!
  # shellcheck disable=SC2064  # this process, whatever becomes of the variable
  trap "kill $later 2>/dev/null || true" EXIT
  go_build "$1/" ./kubernetes k8s.io/kubernetes/cmd/kubectl
  go_build "$1/etcd" go.etcd.io/etcd/server/v3
  kill "$later" 2>/dev/null || true
  trap - EXIT
  for name in kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubeadm kubelet; do ln -s kubernetes "$1/$name"; done
}
# kubernetes_programs: DIR with etcd, kube-apiserver, kubectl and the others.
kubernetes_programs() {
  need_go; find_kubernetes
  artefact "kubernetes-$KUBERNETES" build_kubernetes "$MODFILE" "${MODFILE%.mod}.sum" "$PROGRAMS/kubernetes/main.go" \
    "=${GO_BUILD[*]} $GO_LINK" "=$(declare -f build_kubernetes)"
}

build_coredns() { go_build "$1/coredns" ./coredns; }
coredns_program() { go_artefact coredns build_coredns "$PROGRAMS/coredns/main.go"; }

build_node_programs() {
  go_build "$1/" "${CONTAINERD[@]}"
  go_build "$1/cni/" "${CNI[@]}"
  go_build "$1/" github.com/rancher/local-path-provisioner     # alone: its Sirupsen/logrus and their sirupsen/logrus may not meet
}
node_programs() { go_artefact node-programs build_node_programs "=${CONTAINERD[*]} ${CNI[*]}"; }

build_registry() { go_build "$1/registry" ./registry; }
registry_program() { go_artefact registry build_registry "$PROGRAMS/registry/main.go"; }

build_kind() { go_build "$1/kind" sigs.k8s.io/kind; }
# have_kind: KIND is the program, from PATH if it is there.
have_kind() {
  if [ "$MODE" = host ] && command -v kind >/dev/null; then KIND=$(command -v kind); else go_artefact kind build_kind; KIND=$DIR/kind; fi
}
have_kubectl() {
  if [ "$MODE" != own ] && command -v kubectl >/dev/null; then KUBECTL=$(command -v kubectl); else kubernetes_programs; KUBECTL=$DIR/kubectl; fi
}

# For tests: of the chart, and of alerts and dashboard.
build_helm() {
  go_build "$1/helm3" helm.sh/helm/v3/cmd/helm
  go_build "$1/helm4" helm.sh/helm/v4/cmd/helm
}
helm_programs() { go_artefact helm build_helm; }
build_promtool() { go_build "$1/promtool" github.com/prometheus/prometheus/cmd/promtool; }
promtool_program() { go_artefact promtool build_promtool; }
