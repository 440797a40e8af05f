# kind's node image, made from Debian and our binaries, with the images that kubeadm asks for inside. Sourced, not run.
BUSYBOX_IMAGE=localhost/chorus/busybox:1
STORAGE_IMAGE=localhost/chorus/local-path-provisioner:1

# own_nodes: the nodes are made of our image: kind's own cannot be pulled, and no other is given.
own_nodes() { [ "$MODE" = own ] && [ -z "${KIND_NODE_IMAGE:-}" ]; }

# node_image: NODE_IMAGE is in the engine: kind's own where it can be pulled, ours elsewhere.
node_image() {
  NODE_IMAGE=${KIND_NODE_IMAGE:-}
  own_nodes || return 0
  node_programs; NODE=$DIR
  coredns_program; COREDNS=$DIR
  kubernetes_programs; CONTROL=$DIR
  node_base; BASE=$DIR
  artefact "node-image-$KUBERNETES" build_node_image "$HERE/lib/nodeimage.sh" "$HERE/mkimage.py" "$HERE"/node/* \
    "=$(basename -a "$NODE" "$COREDNS" "$CONTROL" "$BASE")"
  NODE_IMAGE=chorus-node:$(basename "$DIR")
  engine image inspect "$NODE_IMAGE" >/dev/null 2>&1 && return
  say "node image into the engine"
  timeout 300 "$ENGINE" import --change 'ENV container=docker' --change 'ENTRYPOINT ["/usr/local/bin/entrypoint"]' "$DIR/node.tar" "$NODE_IMAGE" >/dev/null
}

build_node_image() {
  # NODE, COREDNS, CONTROL and BASE are node_image's
  local version
  version=v$(kubernetes_version)
  ROOTFS=$1/root IMAGES=$1/images
  mkdir "$ROOTFS" "$IMAGES"
  say "node image"
  tar -C "$ROOTFS" -xf "$BASE/root.tar" --exclude=./dev/*
  node_files
  echo "$version" >"$ROOTFS/kind/version"
  NAMES=$("$CONTROL/kubeadm" config images list --kubernetes-version "$version" 2>/dev/null)
  node_manifests
  node_images
  export ROOTFS IMAGES
  nice timeout --foreground 600 unshare --mount --pid --fork --kill-child bash -euc "$(declare -f import_images); import_images" >&2 ||
    die "the node's containerd took no images: see $IMAGES/import.log"
  nice tar -C "$ROOTFS" --numeric-owner -cf "$1/node.tar" .
  rm -rf "$ROOTFS" "$IMAGES"
}

node_files() {
  local unit
  cd "$ROOTFS" || die "no $ROOTFS"
  # No unit of Debian's is wanted beyond the bare boot; udev, binfmt and getty would reach for the machine itself.
  rm -f etc/systemd/system/*.wants/* lib/systemd/system/{multi-user,local-fs,basic}.target.wants/* lib/systemd/system/sockets.target.wants/*{udev,initctl}*
  mkdir -p etc/systemd/system/multi-user.target.wants kind/bin kind/manifests opt/cni/bin etc/cni/net.d etc/containerd/certs.d etc/kubernetes/{manifests,kubelet.conf.d}
  for unit in systemd-binfmt systemd-udevd systemd-udev-trigger systemd-modules-load console-getty systemd-logind getty@; do
    ln -sf /dev/null "etc/systemd/system/$unit.service"
  done
  echo ReadKMsg=no >>etc/systemd/journald.conf
  cp "$HERE"/node/{containerd,kubelet}.service etc/systemd/system/
  for unit in containerd kubelet; do ln -s "../$unit.service" etc/systemd/system/multi-user.target.wants/; done
  cp "$NODE"/{containerd,ctr,containerd-shim-runc-v2,crictl} usr/local/bin/
  cp -P "$CONTROL"/{kubernetes,kubeadm,kubelet,kubectl} usr/bin/
  cp "$NODE"/cni/* opt/cni/bin/
  cp "$HERE/node/entrypoint" usr/local/bin/
  cp "$HERE"/node/{kubelet-cgroups,net-agent} kind/bin/
  chmod 755 usr/local/bin/entrypoint kind/bin/*
  cp "$HERE/node/kubelet.conf" etc/kubernetes/kubelet.conf.d/10-chorus.conf
  echo 'runtime-endpoint: unix:///run/containerd/containerd.sock' >etc/crictl.yaml
  : >etc/fstab; : >etc/resolv.conf; : >etc/machine-id
  cd "$ROOT" || die "no $ROOT"
}

name_of() { grep "/$1:" <<<"$NAMES"; }     # as kubeadm calls the image

node_manifests() {
  local edit="s|@PAUSE@|$(name_of pause)|; s|@BUSYBOX@|$BUSYBOX_IMAGE|; s|@STORAGE@|$STORAGE_IMAGE|"
  sed "$edit" "$HERE/node/containerd.toml" >"$ROOTFS/etc/containerd/config.toml"
  sed "$edit" "$HERE/node/cni.yaml" >"$ROOTFS/kind/manifests/default-cni.yaml"
  sed "$edit" "$HERE/node/storage.yaml" >"$ROOTFS/kind/manifests/default-storage.yaml"
}

# image REFERENCE [ENTRYPOINT...] -- DIRECTORY...: one more of the archive's images, with those directories as layers.
image() {
  [ ${#ARCHIVE[@]} = 0 ] || ARCHIVE+=(--)
  ARCHIVE+=("$1"); shift
  while [ "$1" != -- ]; do ARCHIVE+=("--entrypoint=$1"); shift; done
  shift
  ARCHIVE+=("$@")
}

# All images in one archive: what several have as a layer is there, imported and unpacked once.
node_images() {
  local program d=$IMAGES
  ARCHIVE=()
  mkdir -p "$d"/{kubernetes,etcd}/usr/local/bin "$d"/{coredns,storage}
  cp -P "$CONTROL"/{kubernetes,kube-*} "$d/kubernetes/usr/local/bin/"
  for program in kube-apiserver kube-controller-manager kube-scheduler; do
    image "$(name_of $program)" "/usr/local/bin/$program" -- "$d/kubernetes"
  done
  cp "$CONTROL/etcd" "$d/etcd/usr/local/bin/"; image "$(name_of etcd)" /usr/local/bin/etcd -- "$d/etcd"
  proxy_layer "$d/proxy"; image "$(name_of kube-proxy)" /usr/local/bin/kube-proxy -- "$d/kubernetes" "$d/proxy"
  cp "$COREDNS/coredns" "$d/coredns/"; image "$(name_of coredns)" /coredns -- "$d/coredns"
  cp "$NODE/local-path-provisioner" "$d/storage/"; image $STORAGE_IMAGE -- "$d/storage"
  install -D "$ROOTFS/bin/busybox" "$d/busybox/bin/busybox"; mkdir "$d/busybox/tmp"
  for program in $("$ROOTFS/bin/busybox" --list); do [ "$program" = busybox ] || ln -s busybox "$d/busybox/bin/$program"; done
  image "$(name_of pause)" /bin/busybox sleep 2147483647 -- "$d/busybox"
  image $BUSYBOX_IMAGE -- "$d/busybox"
  python3 "$HERE/mkimage.py" "$IMAGES/all.tar" "${ARCHIVE[@]}"
}

# kube-proxy runs nft and iptables, so it gets those, their libraries and their extensions (which need libraries of their own).
proxy_layer() {
  local d=$1 lib=usr/lib/x86_64-linux-gnu program library
  mkdir -p "$d/usr/sbin" "$d/$lib" "$d/usr/lib64" "$d/run" "$d/tmp"
  ln -s usr/lib "$d/lib"; ln -s usr/lib64 "$d/lib64"; ln -s usr/sbin "$d/sbin"
  cp -a "$ROOTFS"/usr/sbin/{xtables-nft-multi,nft,conntrack} "$d/usr/sbin/"
  for program in iptables ip6tables iptables-save ip6tables-save iptables-restore ip6tables-restore; do ln -s xtables-nft-multi "$d/usr/sbin/$program"; done
  cp -a "$ROOTFS/$lib/xtables" "$d/$lib/"
  cp -L "$ROOTFS/lib64/ld-linux-x86-64.so.2" "$d/usr/lib64/"
  find "$ROOTFS/$lib/xtables" -type f -printf "/$lib/xtables/%f\n" |
    xargs chroot "$ROOTFS" ldd /usr/sbin/xtables-nft-multi /usr/sbin/nft /usr/sbin/conntrack | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | sort -u |
    while read -r library; do cp -L "$ROOTFS$library" "$d/$lib/"; done
}

# Runs in mount and pid namespaces of its own, with ROOTFS and IMAGES in the environment.
import_images() {
  mount --make-rprivate /
  mount -t proc proc "$ROOTFS/proc"; mount --rbind /dev "$ROOTFS/dev"; mount -t tmpfs tmpfs "$ROOTFS/run"; mount -t tmpfs tmpfs "$ROOTFS/tmp"
  printf 'version = 3\ndisabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]\n' >"$ROOTFS/tmp/c.toml"
  chroot "$ROOTFS" containerd --config /tmp/c.toml >"$IMAGES/import.log" 2>&1 &
  for _ in $(seq 100); do ! chroot "$ROOTFS" ctr version >/dev/null 2>&1 || break; sleep 0.1; done
  chroot "$ROOTFS" ctr -n k8s.io images import --local --discard-unpacked-layers - <"$IMAGES/all.tar" >>"$IMAGES/import.log" 2>&1
  # Collects garbage before it answers: else the layers' archives, which the snapshots were made from, would stay in the image.
  chroot "$ROOTFS" ctr -n k8s.io leases create --id imported >>"$IMAGES/import.log" 2>&1
  chroot "$ROOTFS" ctr -n k8s.io leases delete --sync imported >>"$IMAGES/import.log" 2>&1
  kill %1; wait %1 || true
}
