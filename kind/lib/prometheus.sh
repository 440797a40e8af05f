# promtool, for the tests of alerts and dashboard. Sourced, not run. Apart from binaries.sh, which is part of every other program's key.
# Without its ways to find targets, which need the libraries of every cloud.
build_promtool() {
  locked 7 go
  say "building promtool"
  (cd "$HERE/modules/prometheus" && CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly \
    nice timeout --foreground 2400 go build -trimpath -buildvcs=false -tags remove_all_sd -ldflags "-s -w" -o "$1/" tool) >&2 ||
    die "building promtool failed or took over 40 minutes: see above (Go $(go env GOVERSION), modules by $(go env GOPROXY))"
  unlocked 7
}
# promtool_binary: DIR with promtool.
promtool_binary() { need_go; module_files prometheus; artefact prometheus build_promtool "$HERE/lib/prometheus.sh" "${FILES[@]}"; }
