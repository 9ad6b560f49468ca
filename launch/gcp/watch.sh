# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153 # names in capitals are shared by the files that tpu_vm.sh sources
# The run on every worker: started, watched, and started again after a preemption.

WORKER_SCRIPT=lilith/launch/gcp/worker.sh
STOPPED_POLLS=5 # looks at a run that something stopped before it is started again
LOG_POLLS=10    # looks between two copies of the logs

# on_workers COMMAND [OPTION...]: one command on every worker of the pod.
on_workers() {
  local command=$1
  shift
  command_line gcloud compute tpus tpu-vm ssh "$NAME" "${PLACE[@]}" --worker=all --quiet "$@" \
    --command="$command"
}

# install: this source tree and its dependencies, the same on every worker.
install() {
  local archive=$SCRATCH/lilith.tar.gz
  note 'packs the source tree'
  command_line tar --create --gzip --file="$archive" --directory="$SOURCE_TREE" \
    --exclude='__pycache__' lilith experiments configs launch \
    setup.cfg pyproject.toml constraints.txt README.md LICENSE || return 2
  command_line gcloud compute tpus tpu-vm scp "$archive" "$NAME:lilith.tar.gz" "${PLACE[@]}" --worker=all --quiet ||
    return 1
  on_workers "mkdir -p lilith && tar -xzf lilith.tar.gz -C lilith && bash $WORKER_SCRIPT setup $(quoted "$WORKDIR")"
}

start() {
  local options=(--workdir "$WORKDIR")
  ((HOSTS == 1)) || options+=(--processes "$HOSTS")
  on_workers "bash $WORKER_SCRIPT start $(quoted "${COMMAND[@]}" "${options[@]}")"
}

# read_statuses: what each worker says of the run, into STATUSES, one line a worker.
read_statuses() {
  local folder=$SCRATCH/status
  if ((!DRY_RUN)); then
    rm -rf -- "$folder"
    mkdir -p -- "$folder"
  fi
  on_workers "bash $WORKER_SCRIPT status" --output-directory="$folder" >/dev/null 2>"$ERRORS" || true
  STATUSES=$(cat -- "$folder"/*.log 2>/dev/null | sed -n 's/^lilith: //p') || true
}

# verdict: of STATUSES, into VERDICT: running, finished, requested (by stop), refused (its command),
# crashed, stopped (by a signal that nobody here sent), fresh, or silent (not every worker answered).
verdict() {
  local answers
  answers=$(grep -c . <<<"$STATUSES" || true)
  if grep -q '^exit 2$' <<<"$STATUSES"; then VERDICT=refused
  elif ((answers < HOSTS)); then VERDICT=silent
  elif grep -q -e '^exit [1-9]' -e '^requested [1-9]' <<<"$STATUSES"; then VERDICT=crashed
  elif grep -q '^none$' <<<"$STATUSES"; then VERDICT=fresh
  elif grep -q '^stopped' <<<"$STATUSES"; then VERDICT=stopped
  elif grep -q '^running$' <<<"$STATUSES"; then VERDICT=running
  elif grep -q '^requested' <<<"$STATUSES"; then VERDICT=requested
  else VERDICT=finished; fi
}

gather_logs() {
  local folder=$1
  command_line mkdir -p -- "$folder"
  on_workers "bash $WORKER_SCRIPT log" --output-directory="$folder" >/dev/null 2>"$ERRORS" || return 1
  ((DRY_RUN)) || say "logs of every worker: $folder"
}

# bring_up: the TPU ready, everything installed, the run going on every worker. 1 if not: VERDICT.
bring_up() {
  wait_until_active || {
    VERDICT=lost
    [[ $STATE != GONE ]] || VERDICT=deleted
    return 1
  }
  if ((!DRY_RUN)); then
    read_statuses
    verdict
    [[ $VERDICT != running ]] || return 0
  fi
  { install && start; } || {
    local code=$?
    VERDICT=crashed
    ((code != 2)) || VERDICT=unready
    ! is_lost || VERDICT=lost
    return 1
  }
}

# is_lost: has the TPU gone, though its request may still be called active?
is_lost() {
  read_state
  [[ $STATE == @(ACTIVE|UNKNOWN) ]] || return 0
  read_node_state
  [[ $NODE_STATE == @(GONE|PREEMPTED|TERMINATED|STOPPED) ]]
}

# follow: watch until the run ends or the TPU is lost; VERDICT says which.
follow() {
  local polls=0 stopped=0
  while :; do
    read_state
    if [[ $STATE == UNKNOWN ]]; then
      say "(the state of $NAME can not be read: $(last_line "$(<"$ERRORS")"))"
    elif [[ $STATE == GONE ]]; then
      VERDICT=deleted
      return
    elif [[ $STATE != ACTIVE ]]; then
      VERDICT=lost
      return
    else
      read_statuses
      verdict
      case $VERDICT in
      running) stopped=0 ;;
      silent)
        if is_lost; then
          VERDICT=lost
          return
        fi
        say "(not every worker of $NAME answers)"
        ;;
      stopped)
        # The first sign of a preemption; the state follows. If it does not, the run must go on.
        stopped=$((stopped + 1))
        ((stopped < STOPPED_POLLS)) || return 0
        ;;
      *) return ;;
      esac
      polls=$((polls + 1))
      ((polls % LOG_POLLS)) || gather_logs "$LOGS" || true
    fi
    sleep "$POLL_SECONDS"
  done
}

# restart_lost: create the TPU again, as often as --restarts allows.
restart_lost() {
  local state=$STATE
  [[ $state != ACTIVE ]] || state=$NODE_STATE
  while :; do
    RESTARTED=$((RESTARTED + 1))
    ((RESTARTED <= RESTARTS)) ||
      die "$NAME was lost and --restarts=$RESTARTS is used up: run the same command again to go on, or 'tpu_vm.sh delete $NAME'"
    say "$NAME was lost (${state,,}): restart $RESTARTED of at most $RESTARTS, at \$$PRICE an hour"
    ! recreate || return 0
    say "(not created: $(last_line "$(<"$ERRORS")"); trying again)"
    sleep "$POLL_SECONDS"
  done
}

# restart_crashed: end what is left on the workers; the next start goes on from the last checkpoint.
restart_crashed() {
  CRASHED=$((CRASHED + 1))
  gather_logs "$LOGS/crash_$CRASHED" || true
  ((CRASHED <= RETRIES)) ||
    die "the run ended badly $CRASHED times (see $LOGS): mend it and run again; $NAME still costs \$$PRICE an hour"
  say "the run ended badly: retry $CRASHED of at most $RETRIES, from the last checkpoint"
  on_workers "bash $WORKER_SCRIPT end" >/dev/null 2>"$ERRORS" || true
  sleep "$POLL_SECONDS"
}

# refuse_command: the run said with exit code 2 that its command is wrong; again would not help.
refuse_command() {
  gather_logs "$LOGS" || true
  grep -h '^error:' -- "$LOGS"/*.log 2>/dev/null | sort -u | head -n 3 >&2 || true
  die "the run refused its command (see $LOGS): mend it and run again; $NAME still costs \$$PRICE an hour"
}

# watch_run: the whole life of a run.
watch_run() {
  RESTARTED=0 CRASHED=0
  while :; do
    if bring_up; then
      say "the run goes on; Ctrl-C ends the watching, not the run"
      follow
    fi
    case $VERDICT in
    finished | requested)
      gather_logs "$LOGS" || true
      if [[ $VERDICT == finished ]]; then
        say "the run is finished: $WORKDIR"
      else
        say "the run was stopped by 'tpu_vm.sh stop'; the same command goes on"
      fi
      return 0
      ;;
    refused) refuse_command ;;
    unready) die "the workers of $NAME could not be set up (the sentence is above): mend it and run again; $NAME still costs \$$PRICE an hour" ;;
    deleted) die "$NAME no longer exists and was not deleted by this run: it was not created again; 'tpu_vm.sh delete $NAME' forgets it, create and run go on with $WORKDIR" ;;
    lost) restart_lost ;;
    *) restart_crashed ;;
    esac
  done
}
