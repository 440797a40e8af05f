#!/usr/bin/env bash
# The demo: a cluster, Chorus, a Project over real smart-home requests with two LoRA plugins, to TRAINED and an answer.
# KEEP=1 leaves the cluster. With KUBECONFIG set, that cluster is used: then set CHORUS_OPERATOR_IMAGE and CHORUS_TRAINER_IMAGE
# to images that it can pull, and only what the demo made is removed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cluster=chorus-demo namespace=chorus-demo deadline_seconds=${DEMO_SECONDS:-900}
question=${QUESTION:-Turn on the kitchen lights}
given=${KUBECONFIG:-}
began=$SECONDS
say() { printf '%4ds  %s\n' "$((SECONDS - began))" "$*"; }
die() { printf 'demo: %s\n' "$*" >&2; exit 1; }
k() { kubectl -n "$namespace" "$@"; }

# runs: the names of the runs that there are.
runs() { k get crun -o name 2>/dev/null | sort || true; }

# work: the demo itself. It runs as a job, so that a signal ends it at once: bash would wait for the command in the foreground.
work() {
  scratch=$(mktemp -d)
  trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT
  say "base models: a tiny T5 and a tiny decoder, pre-trained on this machine once"
  "$root/scripts/tiny-models" >"$scratch/models" &      # beside the cluster, if they are to be made
  models_job=$!
  if [ -z "$given" ]; then
    say "images, beside the cluster"
    "$root/kind/cluster" images >"$scratch/images" 2> >(sed 's/^/       /' >&2) &
    images_job=$!
    say "cluster: kind, one worker with two pretend GPUs"
    "$root/kind/cluster" up --name "$cluster" --workers 1 --gpus 2 2>&1 | sed 's/^/       /'
    eval "$("$root/kind/cluster" env --name "$cluster")"
    wait "$images_job" || die "the images could not be made: see above"
    eval "$(cat "$scratch/images")"
  fi
  : "${CHORUS_OPERATOR_IMAGE:?with your own cluster, set it to an image that the cluster can pull}"
  : "${CHORUS_TRAINER_IMAGE:?with your own cluster, set it to an image that the cluster can pull}"

  kubectl create namespace "$namespace" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  kubectl label namespace "$namespace" pod-security.kubernetes.io/enforce=restricted --overwrite >/dev/null
  sed "s|image: chorus-trainer|image: $CHORUS_TRAINER_IMAGE|" "$here/pull.yaml" | k apply -f - >/dev/null

  say "Chorus: kubectl apply -k deploy/"
  "$root/scripts/install"

  wait "$models_job" || die "the base models could not be made: see above"
  models=$(cat "$scratch/models")
  say "data: the table and the base models onto a claim"
  sed "s|image: chorus-operator|image: $CHORUS_OPERATOR_IMAGE|" "$here/claim.yaml" | k apply -f - >/dev/null
  k wait --for=condition=Ready pod/loader --timeout=180s >/dev/null || die "the loader pod did not start: kubectl -n $namespace describe pod loader"
  tar -C "$here/data" -cf - home_requests.sqlite | k exec -i loader -- tar --no-same-owner -xf - -C /home-claim
  tar -C "$models" -cf - t5 decoder | k exec -i loader -- sh -c 'mkdir -p /home-claim/base-models && tar --no-same-owner -xf - -C /home-claim/base-models'

  say "Project: kubectl apply -f plugins.yaml -f project.yaml"
  plugins=$(cat "$here/plugins.yaml")
  if [ -z "$(kubectl get nodes -o jsonpath='{.items[*].status.allocatable.nvidia\.com/gpu}')" ]; then
    say "no node has nvidia.com/gpu: training on the CPU"
    plugins=$(grep -v accelerator: "$here/plugins.yaml")
  fi
  runs_before=$(runs)
  k apply -f - <<<"$plugins" >/dev/null
  k apply -f "$here/project.yaml" >/dev/null
  applied=$SECONDS

  [ -z "$runs_before" ] || say "there are runs from before: $(tr '\n' ' ' <<<"$runs_before")"
  shown=
  while :; do
    phase=$(k get cproj home-requests -o jsonpath='{.status.phase}')
    now=$(k get crun --no-headers -o 'custom-columns=R:.metadata.name,P:.status.phase,%:.status.progress.percent,L:.status.progress.loss,E:.status.progress.etaSeconds,W:.status.reason' 2>/dev/null || true)
    line="project $phase"
    while read -r name p percent loss eta why; do
      [ -z "$name" ] || line+=" | ${name#home-requests-} $p ${percent/<none>/0}% loss ${loss/<none>/-} eta ${eta/<none>/-}s $why"
    done <<<"$now"
    [ "$line" = "$shown" ] || { say "$line"; shown=$line; }
    case $phase in
      TRAINED) break ;;
      failed) k get cproj home-requests -o jsonpath='{.status.reason}: {.status.message}{"\n"}'; die "the Project failed" ;;
    esac
    [ $((SECONDS - applied)) -lt "$deadline_seconds" ] || die "not TRAINED within $deadline_seconds s"
    sleep 2
  done
  if [ "$(runs)" = "$runs_before" ]; then
    say "TRAINED before, by the runs of $(k get crun --sort-by=.metadata.creationTimestamp -o jsonpath='{.items[-1:].metadata.creationTimestamp}'): nothing was trained now, for nothing has changed. For new ones: kubectl delete namespace $namespace, and again"
  else
    say "TRAINED, $((SECONDS - applied)) s after kubectl apply"
  fi
  k delete pod loader pull --wait=false >/dev/null

  echo
  k get cproj,cplug,crun
  echo
  k get cproj home-requests -o jsonpath='{range .status.latestModel[*]}{.plugin}{"  "}{.uri}{"  "}{.digest}{"\n"}{end}'
  k delete pod ask-t5 ask-decoder --ignore-not-found >/dev/null      # of an earlier demo on this cluster
  for plugin in t5 decoder; do
    run=$(k get cproj home-requests -o jsonpath="{.status.plugins[?(@.name==\"$plugin\")].run}")
    with=$(k get crun "$run" -o jsonpath='{.status.model.metrics.eval_loss}')
    without=$(k get crun "$run" -o jsonpath='{.status.model.metrics.eval_loss_without_adapter}')
    echo
    echo "$plugin: eval loss $with with the adapter, $without without"
    awk -v a="$with" -v b="$without" 'BEGIN { exit !(a > 0 && b > 0 && a <= 0.8 * b) }' || die "$plugin: the adapter should bring the eval loss to 0.8 of the base model's or less"
    sed -e "s|PLUGIN|$plugin|g; s|BASE|$plugin|; s|PROMPT|$question|; s|image: chorus-trainer|image: $CHORUS_TRAINER_IMAGE|" "$here/ask.yaml" | k apply -f - >/dev/null
  done
  for plugin in t5 decoder; do
    k wait --for=jsonpath='{.status.phase}'=Succeeded "pod/ask-$plugin" --timeout=180s >/dev/null || { k logs "ask-$plugin" --tail=20; die "asking $plugin failed"; }
    echo
    echo "$plugin, asked: $question"
    k logs "ask-$plugin"
  done
  echo
  say "done"
}

# show: what the cluster says when something went wrong.
show() {
  [ -n "$given" ] || eval "$("$root/kind/cluster" env --name "$cluster" 2>/dev/null || true)"
  k get cproj,cplug,crun,jobs,pods 2>/dev/null || true
  k get events --sort-by=.lastTimestamp 2>/dev/null | tail -15 || true
}

take_down() {
  if [ -n "${KEEP:-}" ]; then
    [ -n "$given" ] || eval "$("$root/kind/cluster" env --name "$cluster" 2>/dev/null || true)"
    [ -n "${KUBECONFIG:-}" ] || { say "nothing to keep: there is no cluster yet"; return; }
    say "kept. Use it with: export KUBECONFIG=$KUBECONFIG; kubectl -n $namespace get cproj,cplug,crun"
    [ -n "$given" ] || say "remove it with: kind/cluster down --name $cluster"
  elif [ -n "$given" ]; then
    say "removing the namespace $namespace (KEEP=1 keeps it)"
    kubectl delete namespace "$namespace" --ignore-not-found --wait=false >/dev/null 2>&1 || true
  else
    say "removing the cluster $cluster (KEEP=1 keeps it)"
    "$root/kind/cluster" down --name "$cluster" 2>&1 | sed 's/^/       /' || say "it may still be there: kind/cluster down --name $cluster"
  fi
}

interrupted=
set -m
(set +m; work) </dev/null &
job=$!
set +m
trap 'interrupted=yes; kill -TERM -- "-$job" 2>/dev/null || true' INT TERM HUP
rc=0
wait "$job" || rc=$?
trap - INT TERM HUP
if [ -n "$interrupted" ]; then
  say "interrupted"
  for _ in $(seq 100); do kill -0 -- "-$job" 2>/dev/null || break; sleep 0.1; done
  kill -KILL -- "-$job" 2>/dev/null || true
  rc=130
elif [ "$rc" != 0 ]; then
  say "failed; what the cluster says:"
  show
fi
take_down
exit "$rc"
