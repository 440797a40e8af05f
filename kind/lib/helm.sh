# Helm 3 and Helm 4, for the chart's tests. Sourced, not run. Apart from binaries.sh, which is part of every other program's key.
# One module pins both, so that what they share is compiled once.
build_helm() {
  local major
  for major in 3 4; do
    go_build helm "$1/helm.d" "helm.sh/helm/v$major/cmd/helm"
    mv "$1/helm.d/helm" "$1/helm$major"
  done
  rmdir "$1/helm.d"
}
# helm_binaries: DIR with helm3 and helm4.
helm_binaries() { need_go; module_files helm; artefact helm build_helm "$HERE/lib/helm.sh" "${FILES[@]}"; }
