#!/usr/bin/env bash
# Starts, reads and deletes the JobSet of gke.yaml on the cluster of kubectl's context: see usage.
set -euo pipefail

FOLDER=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/gcp/lib.sh
source "$FOLDER/lib.sh"

usage() {
  cat <<'END'
usage: gke.sh COMMAND [--file gke.yaml] [--context NAME] [--dry-run] [--yes]

  create   start the JobSet; refused if its name is in use
  logs     copy the log of every pod into runs/NAME/logs (--logs DIR for another folder)
  delete   delete the JobSet, if it was created here; the node pools stay, and cost

--dry-run prints the exact commands and runs none.
END
}

parse() {
  FILE=$FOLDER/gke.yaml CONTEXT=() LOGS='' DRY_RUN=0 YES=0
  while (($#)); do
    case $1 in
    --dry-run) DRY_RUN=1 ;;
    --yes) YES=1 ;;
    --file | --context | --logs)
      [[ ${2:-} ]] || die "$1 needs a value"
      case $1 in
      --file) FILE=$2 ;;
      --logs) LOGS=$2 ;;
      *) CONTEXT=(--context="$2") ;;
      esac
      shift
      ;;
    *) die "there is no option $1: see gke.sh --help" ;;
    esac
    shift
  done
  [[ -f $FILE ]] || die "there is no file $FILE: name the JobSet with --file"
  NAME=$(awk '$1 == "name:" { print $2; exit }' "$FILE")
  LOGS=${LOGS:-runs/$NAME/logs}
  ((DRY_RUN)) || command -v kubectl >/dev/null ||
    die "there is no kubectl on the PATH: run 'gcloud components install kubectl' and 'gcloud container clusters get-credentials CLUSTER'"
}

gke_state() { printf '%s' "$STATE_FOLDER/$NAME.gke"; }

kube() { command_line kubectl "${CONTEXT[@]}" "$@" 2>"$ERRORS"; }

# failed WHAT: end with one sentence for what kubectl said last.
failed() {
  local text
  text=$(last_line "$(<"$ERRORS")")
  case $text in
  *"logged in"* | *Unauthorized* | *credentials* | *"getting token"* | *"auth plugin"*)
    die "kubectl has no valid credentials ($text): run 'gcloud auth login' and 'gcloud container clusters get-credentials CLUSTER --location=REGION', then the same command again" ;;
  *refused* | *"no such host"* | *"i/o timeout"* | *"Unable to connect"* | *"context was not found"* | *"does not exist"*)
    die "kubectl finds no cluster ($text): run 'gcloud container clusters get-credentials CLUSTER --location=REGION', or name another --context" ;;
  *"no matches for kind"* | *"doesn't have a resource type"*)
    die "the cluster has no JobSet controller ($text): install it (https://jobset.sigs.k8s.io), then the same command again" ;;
  *Forbidden* | *forbidden*)
    die "this account may not do that ($text): ask for the role roles/container.developer" ;;
  *) die "$1 failed: $text" ;;
  esac
}

read_label() { kube get jobset "$NAME" --output='jsonpath={.metadata.labels.lilith-launch}'; }

not_there() { grep -q -F '(NotFound)' -- "$ERRORS"; }

# was_refused TEXT: did the cluster say no, or was there none? After a time-out nobody knows.
was_refused() {
  grep -q -i -e 'logged in' -e unauthorized -e credentials -e 'getting token' -e 'auth plugin' \
    -e refused -e 'no such host' -e forbidden -e 'no matches for kind' <<<"$1"
}

# undo_create OWNER: after a failed creation. What was created all the same stays known to delete.
undo_create() {
  local said label
  said=$(<"$ERRORS")
  if label=$(read_label); then
    [[ $label != "$1" ]] ||
      die "creating $NAME failed half way ($(last_line "$said")), and it exists: 'gke.sh logs' shows what it does, 'gke.sh delete' ends it"
    rm -f -- "$(gke_state)"
  elif not_there || was_refused "$said"; then
    rm -f -- "$(gke_state)"
  fi
  printf '%s\n' "$said" >"$ERRORS"
}

do_create() {
  local owner=${LILITH_LAUNCH_ID:-$(date -u +%Y%m%d-%H%M%S)-$RANDOM} labelled=/tmp/lilith-launch.yaml
  local blank
  blank=$(grep -v '^ *#' "$FILE" | grep -o -w -e PROJECT -e BUCKET | head -n 1 || true)
  ((DRY_RUN)) || [[ -z $blank ]] || die "$FILE still says $blank: write your own in its place"
  [[ ! -f $(gke_state) ]] || die "the name $NAME is in use: it was created from here ($(gke_state)); 'gke.sh delete' ends it"
  confirm "start $NAME? Its node pools cost by the hour, whoever made them; docs/running_on_tpu.md has figures"
  ((DRY_RUN)) || labelled=$ERRORS.yaml
  note 'the label by which delete knows it again'
  if ((DRY_RUN)); then
    printf '%s > %s\n' "$(quoted kubectl label --local --filename="$FILE" lilith-launch="$owner" --output=yaml)" "$labelled" >&3
  else
    kube label --local --filename="$FILE" lilith-launch="$owner" --output=yaml >"$labelled" || failed "labelling $NAME"
    mkdir -p -- "$STATE_FOLDER"
    printf '%s\n' "$owner" >"$(gke_state)"
  fi
  # create, not apply: a JobSet of that name must not be changed.
  kube create --filename="$labelled" || {
    undo_create "$owner"
    ! grep -q -i 'already exists' -- "$ERRORS" ||
      die "the name $NAME is in use on this cluster: change metadata.name in $FILE"
    failed "creating $NAME"
  }
}

do_logs() {
  local pods pod
  pods=$(kube get pods --selector=jobset.sigs.k8s.io/jobset-name="$NAME" --output=name) || failed "listing the pods of $NAME"
  ((!DRY_RUN)) || pods=pod/POD
  [[ $pods ]] || die "$NAME has no pods: 'kubectl describe jobset $NAME' says why"
  command_line mkdir -p -- "$LOGS"
  for pod in $pods; do
    if ((DRY_RUN)); then
      printf '%s > %s\n' "$(quoted kubectl "${CONTEXT[@]}" logs "$pod")" "$LOGS/${pod#pod/}.log" >&3
    else
      kube logs "$pod" >"$LOGS/${pod#pod/}.log" || failed "reading the log of $pod"
    fi
  done
  ((DRY_RUN)) || say "logs of every pod: $LOGS"
}

do_delete() {
  local owner label
  if ((!DRY_RUN)); then
    [[ -f $(gke_state) ]] || die "$NAME was not created by this script from this machine (no $(gke_state)): if it is yours, 'kubectl delete jobset $NAME'"
    owner=$(<"$(gke_state)")
  fi
  label=$(read_label) || {
    ! not_there ||
      die "$NAME is not on this cluster and nothing was deleted: name the cluster it was created on with --context, or if it is gone remove $(gke_state)"
    failed "looking up $NAME"
  }
  ((DRY_RUN)) || [[ $label == "$owner" ]] ||
    die "$NAME does not carry the label written when it was created from here (lilith-launch=$owner): it is someone else's and was not deleted"
  confirm "delete $NAME?"
  kube delete jobset "$NAME" || failed "deleting $NAME"
  ((DRY_RUN)) || rm -f -- "$(gke_state)"
  ((DRY_RUN)) || say "$NAME is deleted; its node pools stay and cost until they are deleted or scale down"
}

main() {
  local command=${1:-}
  trap 'rm -f -- "$ERRORS" "$ERRORS.yaml"' EXIT
  case $command in
  create | logs | delete)
    parse "${@:2}"
    "do_$command"
    ;;
  -h | --help | help) usage ;;
  *) die "there is no command '$command': create, logs or delete" ;;
  esac
}

main "$@"
