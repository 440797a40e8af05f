# What is made from Debian packages: root file systems, and the container engine. From the machine's own sources. Sourced, not run.
NODE_PACKAGES=systemd,systemd-sysv,dbus,runc,iptables,nftables,conntrack,iproute2,ethtool,kmod,mount,util-linux,procps,ca-certificates,socat,busybox-static

# debian_tar SUITE PACKAGES OUT [HOOK]: the suite comes from the mirror that the machine itself uses; its own suite with its security updates.
debian_tar() {
  local sources=$3.list key=/usr/share/keyrings/debian-archive-keyring.gpg
  package_lists
  if [ "$1" = "$(os_release VERSION_CODENAME)" ]; then
    apt-get indextargets --format "deb [signed-by=$key] \$(REPO_URI) \$(CODENAME) \$(COMPONENT)" 'Created-By: Packages' 'Origin: Debian' | sort -u >"$sources"
  else
    # shellcheck disable=SC2016  # apt's own variable
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | grep '/debian/\{0,1\}$' | sort -u | head -1 |
      sed "s|.*|deb [signed-by=$key] & $1 main|" >"$sources"
  fi
  [ -s "$sources" ] || die "apt knows no Debian mirror: run apt-get update, and see /etc/apt/sources.list"
  say "Debian $1"
  # SOURCE_DATE_EPOCH: the same packages give the same bytes, so that layers built on them stay cached and need no push.
  SOURCE_DATE_EPOCH=1700000000 nice timeout --foreground 900 mmdebstrap --quiet --format=tar --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include="$2" ${4:+--customize-hook="$4"} "$1" "$3" "$sources" >&2 || die "mmdebstrap could not make Debian $1: see above"
  rm "$sources"
}

build_node_base() { debian_tar "$(os_release VERSION_CODENAME)" "$NODE_PACKAGES" "$1/root.tar"; }
node_base() { artefact node-base build_node_base "$HERE/lib/debian.sh" "=$(os_release VERSION_CODENAME)"; }

# What python:3.13-slim-trixie holds, as far as our Dockerfiles use it.
build_image_base() {
  # shellcheck disable=SC2016  # expanded by mmdebstrap's shell
  debian_tar trixie ca-certificates,python3,python3-venv "$1/root.tar" \
    'ln -s ../../bin/python3 "$1/usr/local/bin/python"; rm -f "$1/etc/resolv.conf" "$1/etc/hostname" "$1/usr/lib/python3.13/EXTERNALLY-MANAGED"'
  python3 "$HERE/mkimage.py" --env LANG=C.UTF-8 --command python3 "$1/image.tar" "chorus-base:$(digest "$1/root.tar")" "$1/root.tar"
  digest "$1/root.tar" >"$1/id"
  rm "$1/root.tar"
}
image_base() { artefact image-base build_image_base "$HERE/lib/debian.sh" "$HERE/mkimage.py"; }

# The engine is unpacked, not installed: nothing of it runs unless we start it.
build_engine() {
  local deb
  package_lists
  say "container engine from Debian's packages"
  mkdir "$1/debs"
  (cd "$1/debs" && { timeout 300 apt-get download -q docker.io containerd runc tini || { timeout 300 apt-get update -q && timeout 300 apt-get download -q docker.io containerd runc tini; }; } >/dev/null 2>&1) ||
    die "apt-get download docker.io containerd runc tini failed: run apt-get update and try again"
  for deb in "$1"/debs/*.deb; do dpkg-deb -x "$deb" "$1/root"; done
  mv "$1/root" "$1/docker"; rm -r "$1/debs"
  if ldd "$1/docker/usr/sbin/dockerd" | grep 'not found' >&2; then
    timeout 600 apt-get install -qy --no-install-recommends libdevmapper1.02.1 libsystemd0 libseccomp2 >&2 || die "the engine's libraries could not be installed: see above"
  fi
  cp "$HERE/runc-wrap" "$COREDNS/coredns" "$1/docker/usr/bin/"
}
