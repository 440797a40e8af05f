# kind's node image, made from Debian and our binaries, with the images that kubeadm asks for inside. Sourced, not run.
BUSYBOX_IMAGE=localhost/chorus/busybox:1
STORAGE_IMAGE=localhost/chorus/local-path-provisioner:1

# node_image: NODE_IMAGE is in the engine: kind's own where it can be pulled, ours elsewhere.
node_image() {
  NODE_IMAGE=${KIND_NODE_IMAGE:-}
  [ "$MODE" = own ] && [ -z "$NODE_IMAGE" ] || return 0
  local binaries api base
  node_binaries; binaries=$DIR
  api_binaries; api=$DIR
  node_base; base=$DIR
  BINARIES=$binaries API=$api BASE=$base
  artefact node-image build_node_image "$HERE/lib/nodeimage.sh" "$HERE/mkimage.py" "$HERE"/node/* \
    "=$(basename "$binaries") $(basename "$api") $(basename "$base")"
  NODE_IMAGE=chorus-node:$(basename "$DIR")
  engine image inspect "$NODE_IMAGE" >/dev/null 2>&1 && return
  say "node image into the engine"
  timeout 300 "$ENGINE" import --change 'ENV container=docker' --change 'ENTRYPOINT ["/usr/local/bin/entrypoint"]' "$DIR/node.tar" "$NODE_IMAGE" >/dev/null
}

build_node_image() {
  # BINARIES, API and BASE are node_image's
  ROOTFS=$1/root IMAGES=$1/images KUBERNETES=$(version_of kubernetes k8s.io/kubernetes)
  mkdir "$ROOTFS" "$IMAGES"
  say "node image"
  tar -C "$ROOTFS" -xf "$BASE/root.tar" --exclude=./dev/*
  node_files
  NAMES=$("$BINARIES/kubeadm" config images list --kubernetes-version "v$KUBERNETES" 2>/dev/null)
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
  cp "$BINARIES"/{containerd,ctr,containerd-shim-runc-v2,crictl} usr/local/bin/
  cp "$BINARIES"/{kubeadm,kubelet} "$API/kubectl" usr/bin/
  cp "$BINARIES"/cni/* opt/cni/bin/
  cp "$HERE/node/entrypoint" usr/local/bin/
  cp "$HERE"/node/{kubelet-cgroups,net-agent} kind/bin/
  chmod 755 usr/local/bin/entrypoint kind/bin/*
  cp "$HERE/node/kubelet.conf" etc/kubernetes/kubelet.conf.d/10-chorus.conf
  echo 'runtime-endpoint: unix:///run/containerd/containerd.sock' >etc/crictl.yaml
  echo "v$KUBERNETES" >kind/version
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

image() { # REFERENCE [ENTRYPOINT...]: from the directory $IMAGES/d, which it removes
  local reference=$1 word entrypoint=(); shift
  for word; do entrypoint+=("--entrypoint=$word"); done
  python3 "$HERE/mkimage.py" "${entrypoint[@]}" "$IMAGES/$(basename "${reference%%:*}").tar" "$reference" "$IMAGES/d"
  rm -rf "$IMAGES/d"
}

node_images() {
  local program d=$IMAGES/d
  for program in kube-apiserver kube-controller-manager etcd; do
    install -D "$API/$program" "$d/usr/local/bin/$program"; image "$(name_of $program)" "/usr/local/bin/$program"
  done
  install -D "$BINARIES/kube-scheduler" "$d/usr/local/bin/kube-scheduler"; image "$(name_of kube-scheduler)" /usr/local/bin/kube-scheduler
  install -D "$BINARIES/coredns" "$d/coredns"; image "$(name_of coredns)" /coredns
  install -D "$BINARIES/local-path-provisioner" "$d/local-path-provisioner"; image $STORAGE_IMAGE
  install -D "$ROOTFS/bin/busybox" "$d/bin/busybox"; image "$(name_of pause)" /bin/busybox sleep 2147483647
  install -D "$ROOTFS/bin/busybox" "$d/bin/busybox"; mkdir -p "$d/tmp"
  for program in $("$ROOTFS/bin/busybox" --list); do [ "$program" = busybox ] || ln -s busybox "$d/bin/$program"; done
  image $BUSYBOX_IMAGE
  proxy_image "$d"
}

# kube-proxy runs nft and iptables, so it gets those, their libraries and their extensions (which need libraries of their own).
proxy_image() {
  local d=$1 lib=usr/lib/x86_64-linux-gnu program library
  install -D "$BINARIES/kube-proxy" "$d/usr/local/bin/kube-proxy"
  mkdir -p "$d/usr/sbin" "$d/$lib" "$d/usr/lib64" "$d/run" "$d/tmp"
  ln -s usr/lib "$d/lib"; ln -s usr/lib64 "$d/lib64"; ln -s usr/sbin "$d/sbin"
  cp -a "$ROOTFS"/usr/sbin/{xtables-nft-multi,nft,conntrack} "$d/usr/sbin/"
  for program in iptables ip6tables iptables-save ip6tables-save iptables-restore ip6tables-restore; do ln -s xtables-nft-multi "$d/usr/sbin/$program"; done
  cp -a "$ROOTFS/$lib/xtables" "$d/$lib/"
  cp -L "$ROOTFS/lib64/ld-linux-x86-64.so.2" "$d/usr/lib64/"
  find "$ROOTFS/$lib/xtables" -type f -printf "/$lib/xtables/%f\n" |
    xargs chroot "$ROOTFS" ldd /usr/sbin/xtables-nft-multi /usr/sbin/nft /usr/sbin/conntrack | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | sort -u |
    while read -r library; do cp -L "$ROOTFS$library" "$d/$lib/"; done
  image "$(name_of kube-proxy)" /usr/local/bin/kube-proxy
}

# Runs in mount and pid namespaces of its own, with ROOTFS and IMAGES in the environment.
import_images() {
  mount --make-rprivate /
  mount -t proc proc "$ROOTFS/proc"; mount --rbind /dev "$ROOTFS/dev"; mount -t tmpfs tmpfs "$ROOTFS/run"; mount -t tmpfs tmpfs "$ROOTFS/tmp"
  printf 'version = 3\ndisabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]\n' >"$ROOTFS/tmp/c.toml"
  chroot "$ROOTFS" containerd --config /tmp/c.toml >"$IMAGES/import.log" 2>&1 &
  local archive
  for _ in $(seq 100); do ! chroot "$ROOTFS" ctr version >/dev/null 2>&1 || break; sleep 0.1; done
  for archive in "$IMAGES"/*.tar; do
    chroot "$ROOTFS" ctr -n k8s.io images import --local --discard-unpacked-layers - <"$archive" >>"$IMAGES/import.log" 2>&1
  done
  kill %1; wait %1 || true
}
