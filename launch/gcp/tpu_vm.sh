#!/usr/bin/env bash
# TPU VMs of Google Cloud for LILITH: see usage below and docs/running_on_tpu.md.
set -euo pipefail

FOLDER=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/gcp/lib.sh
source "$FOLDER/lib.sh"
# shellcheck source=launch/gcp/checks.sh
source "$FOLDER/checks.sh"
# shellcheck source=launch/gcp/lifecycle.sh
source "$FOLDER/lifecycle.sh"
# shellcheck source=launch/gcp/watch.sh
source "$FOLDER/watch.sh"

usage() {
  cat <<'END'
usage: tpu_vm.sh COMMAND NAME [options] [-- arguments]

  create NAME --type v5p-8 --zone us-east5-a --workdir gs://BUCKET/RUN [--spot]
           check everything, show the price, ask, create the TPU and wait until it is ready
  setup  NAME    install this source tree and its dependencies on every worker
  run    NAME -- --config pretrain_code ...
           run experiments.run on every worker and watch it; after a preemption create the TPU
           again and run the same command, which resumes
  logs   NAME [--logs DIR]      copy the log of every worker into DIR (default: runs/NAME/logs)
  ssh    NAME [--worker K]      a shell on worker K (default: 0)
  stop   NAME    save and stop the run; the TPU stays, and costs
  delete NAME    delete the TPU, if it was created here

options of every command: --dry-run (print the exact commands and run none), --yes (ask nothing)
options of create: --project ID, --spot, --topology 2x2x1 (refuse a type of another shape),
  --runtime-version V, --service-account EMAIL, --network NAME, --subnetwork NAME,
  --no-wait (do not wait until it is ready)
options of run: --restarts N (after preemptions; default 100),
  --retries N (after crashes; default 3), --logs DIR
END
}

defaults() {
  PROJECT='' ZONE='' TYPE='' RUNTIME='' TOPOLOGY='' WORKDIR='' OWNER=''
  SERVICE_ACCOUNT='' NETWORK='' SUBNETWORK='' WORKER=0 LOGS=''
  SPOT=0 YES=0 DRY_RUN=0 WAIT=1 RESTARTS=100 RETRIES=3
  COMMAND=()
}

# take_value OPTION VALUE: an option that has a value.
take_value() {
  [[ $2 ]] || die "$1 needs a value"
  case $1 in
  --type) TYPE=$2 ;;
  --zone) ZONE=$2 ;;
  --project) PROJECT=$2 ;;
  --workdir) WORKDIR=${2%/} ;;
  --topology) TOPOLOGY=$2 ;;
  --runtime-version) RUNTIME=$2 ;;
  --service-account) SERVICE_ACCOUNT=$2 ;;
  --network) NETWORK=$2 ;;
  --subnetwork) SUBNETWORK=$2 ;;
  --worker) WORKER=$2 ;;
  --logs) LOGS=$2 ;;
  --restarts) RESTARTS=$2 ;;
  --retries) RETRIES=$2 ;;
  *) die "there is no option $1: see tpu_vm.sh --help" ;;
  esac
}

# take_flag OPTION: an option that has none.
take_flag() {
  case $1 in
  --spot) SPOT=1 ;;
  --yes) YES=1 ;;
  --dry-run) DRY_RUN=1 ;;
  --no-wait) WAIT=0 ;;
  *) return 1 ;;
  esac
}

parse() {
  read_options "$@"
  [[ $RESTARTS =~ ^[0-9]+$ ]] || die "--restarts is '$RESTARTS': give a whole number"
  [[ $RETRIES =~ ^[0-9]+$ ]] || die "--retries is '$RETRIES': give a whole number"
  LOGS=${LOGS:-runs/$NAME/logs}
}

do_create() {
  check_names
  read_type
  check_runtime
  check_topology
  check_workdir
  check_price
  check_not_created
  check_account
  check_project
  PLACE=(--zone="$ZONE" --project="$PROJECT")
  OWNER=${LILITH_LAUNCH_ID:-$(date -u +%Y%m%d-%H%M%S)-$RANDOM}
  check_type
  check_quota
  check_name_is_free
  check_bucket
  say_price
  confirm "create $NAME?"
  create_resource || {
    undo_create
    explain "creating $NAME"
  }
  ((WAIT)) || {
    ((DRY_RUN)) || say "$NAME is asked for; 'tpu_vm.sh run' waits until it is ready. It costs from then on: 'tpu_vm.sh delete $NAME' ends that"
    return 0
  }
  wait_until_active || {
    local reason=$STATE
    [[ $STATE != FAILED ]] || reason=$(failure_reason)
    undo_create
    die "$NAME was not granted ($reason): nothing is left of it; try later, or another zone"
  }
  ((DRY_RUN)) || say "$NAME is ready and costs \$$PRICE an hour until 'tpu_vm.sh delete $NAME'"
}

do_setup() {
  install || die "the workers of $NAME could not be set up (the reason is above): mend it and run the same command again"
  ((DRY_RUN)) || say "$NAME is set up"
}

do_run() {
  ((${#COMMAND[@]})) || die "run needs the arguments of experiments.run after --, such as: run $NAME -- --config pretrain_code"
  local word
  for word in "${COMMAND[@]}"; do
    [[ $word != --@(workdir|processes|process|coordinator)?(=*) ]] ||
      die "leave $word out: the workdir is create's, $WORKDIR, and the processes find each other"
  done
  check_workdir
  if ((DRY_RUN)); then
    dry_run_of_run
    return
  fi
  trap 'say; say "no longer watching; the run goes on and costs \$$PRICE an hour. The same command watches again, stop saves and ends it"; exit 130' INT
  watch_run
  say "$NAME still costs \$$PRICE an hour: 'tpu_vm.sh delete $NAME' ends that"
}

dry_run_of_run() {
  bring_up
  note "every $POLL_SECONDS s, until every worker's run has ended:"
  read_state
  read_statuses
  note 'every 10 of those, and at the end:'
  gather_logs "$LOGS"
  note "after a preemption, at most $RESTARTS times: the label is compared, then"
  recreate
  note 'and from the start again, with the same command'
}

do_logs() { gather_logs "$LOGS" || die "the logs of $NAME could not be copied: $(last_line "$(<"$ERRORS")")"; }

do_ssh() {
  if [[ ! $WORKER =~ ^[0-9]{1,5}$ ]] || ((WORKER >= HOSTS)); then
    die "--worker is '$WORKER' and $TYPE has the workers 0 to $((HOSTS - 1))"
  fi
  ((!${#COMMAND[@]})) || COMMAND=(-- "${COMMAND[@]}")
  command_line gcloud compute tpus tpu-vm ssh "$NAME" "${PLACE[@]}" --worker="$WORKER" "${COMMAND[@]}"
}

do_stop() {
  on_workers "bash $WORKER_SCRIPT stop" || die "not every worker of $NAME says that its run has ended: see 'tpu_vm.sh logs $NAME', and stop again"
  ((DRY_RUN)) || say "the run of $NAME is saved and stopped; the TPU still costs \$$PRICE an hour: 'tpu_vm.sh delete $NAME' ends that"
}

do_delete() {
  read_state
  if [[ $STATE == UNKNOWN ]]; then explain "reading the state of $NAME"; fi
  if [[ $STATE == GONE ]] && ((!DRY_RUN)); then
    rm -f -- "$(state_file)"
    say "$NAME no longer exists: forgotten"
    return
  fi
  read_ownership
  if [[ $OWNED == unknown ]]; then explain "reading the label of $NAME"; fi
  if [[ $OWNED == no ]]; then
    die "$NAME in zone $ZONE does not carry the label written when it was created from here (lilith_launch=$OWNER): it is someone else's and was not deleted"
  fi
  confirm "delete $NAME, which costs \$$PRICE an hour?"
  delete_resource || explain "deleting $NAME (it may still cost \$$PRICE an hour)"
  ((DRY_RUN)) || say "$NAME is deleted and costs nothing more; the run's folder $WORKDIR stays"
}

main() {
  local command=${1:-} NAME=${2:-}
  [[ $command != @(|-h|--help|help) ]] || {
    usage
    [[ $command ]] || return 2
    return 0
  }
  [[ $command == @(create|setup|run|logs|ssh|stop|delete) ]] ||
    die "there is no command '$command': create, setup, run, logs, ssh, stop or delete"
  [[ $NAME && $NAME != -* ]] || die "$command needs the TPU's name first: tpu_vm.sh $command NAME ..."
  defaults
  parse "${@:3}"
  check_tools
  SCRATCH=/tmp/lilith-launch
  trap 'rm -f -- "$ERRORS"' EXIT
  if ((!DRY_RUN)); then
    SCRATCH=$(mktemp -d)
    trap 'rm -rf -- "$SCRATCH" "$ERRORS"' EXIT
  fi
  [[ $command == create ]] || load_state
  "do_$command"
}

main "$@"
