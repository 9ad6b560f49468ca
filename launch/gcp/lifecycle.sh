# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153 # names in capitals are shared by the files that tpu_vm.sh sources
# Creating, waiting for, and deleting a queued resource; nothing is deleted that was not created here.

FAILURES_OF_WAITING=30 # unreadable states in a row before giving up

# described KIND FORMAT: a field of what gcloud has of $NAME; GONE if there is nothing, UNKNOWN if gcloud
# failed or said nothing.
described() {
  local found
  if found=$(cloud compute tpus "$1" describe "$NAME" "${PLACE[@]}" "--format=value($2)"); then
    found=${found:-UNKNOWN}
  elif not_found; then
    found=GONE
  else
    found=UNKNOWN
  fi
  ((!DRY_RUN)) || found=GONE
  printf '%s' "$found"
}

# read_state: the queued resource's state into STATE.
read_state() { STATE=$(described queued-resources state.state); }

# read_node_state: the same of the TPU VM itself into NODE_STATE (READY, PREEMPTED, ...).
read_node_state() { NODE_STATE=$(described tpu-vm state); }

# create_resource: ask for the TPU. The state file comes first: what a failed call leaves is ours too.
create_resource() {
  local options=()
  ((SPOT)) && options+=(--spot)
  [[ -z $SERVICE_ACCOUNT ]] || options+=(--service-account="$SERVICE_ACCOUNT")
  [[ -z $NETWORK ]] || options+=(--network="$NETWORK")
  [[ -z $SUBNETWORK ]] || options+=(--subnetwork="$SUBNETWORK")
  write_state
  cloud compute tpus queued-resources create "$NAME" --node-id="$NAME" "${PLACE[@]}" \
    --accelerator-type="$TYPE" --runtime-version="$RUNTIME" --labels="lilith_launch=$OWNER" \
    --scopes=https://www.googleapis.com/auth/cloud-platform "${options[@]}" --quiet
}

# undo_create: after a refusal or a half-made resource, remove what was made, if anything was.
undo_create() {
  local said
  said=$(<"$ERRORS")
  read_state
  case $STATE in
  GONE) rm -f -- "$(state_file)" ;;
  UNKNOWN) say "(whether $NAME was created can not be read: run 'tpu_vm.sh delete $NAME')" >&2 ;;
  *)
    read_ownership
    if [[ $OWNED == yes ]]; then
      delete_resource || explain "deleting the half-created $NAME (it may cost \$$PRICE an hour)"
      say "(what had been created of $NAME was deleted again)" >&2
    elif [[ $OWNED == no ]]; then
      rm -f -- "$(state_file)"
    fi
    ;;
  esac
  printf '%s\n' "$said" >"$ERRORS"
}

# read_ownership: does the label written at creation agree with the state file? OWNED is yes, no or
# unknown (the label could not be read).
read_ownership() {
  local label=''
  OWNED=unknown
  label=$(cloud compute tpus queued-resources describe "$NAME" "${PLACE[@]}" \
    '--format=value(tpu.nodeSpec[0].node.labels.lilith_launch)') || return 0
  if [[ -z $label ]] && ((!DRY_RUN)); then
    label=$(cloud compute tpus tpu-vm describe "$NAME" "${PLACE[@]}" '--format=value(labels.lilith_launch)') ||
      not_found || return 0
  fi
  OWNED=no
  [[ $label != "$OWNER" ]] || OWNED=yes
  ((!DRY_RUN)) || OWNED=yes
}

# delete_resource: callers ask read_ownership first.
delete_resource() {
  cloud compute tpus queued-resources delete "$NAME" "${PLACE[@]}" --force --quiet || return 1
  ((DRY_RUN)) || rm -f -- "$(state_file)"
}

failure_reason() {
  local reason
  reason=$(cloud compute tpus queued-resources describe "$NAME" "${PLACE[@]}" \
    '--format=value(state.failedData.error.message)') || reason=''
  printf '%s' "${reason:-no reason given}"
}

# wait_until_active: follow the queue. Returns 0 when ready, 1 when the request failed or ended.
wait_until_active() {
  local before='' unread=0
  while :; do
    read_state
    if ((DRY_RUN)); then
      note "again every $POLL_SECONDS s until it prints ACTIVE"
      return 0
    fi
    [[ $STATE == "$before" ]] || say "$(date -u +%H:%M:%S) $NAME is $STATE"
    before=$STATE
    case $STATE in
    ACTIVE) return 0 ;;
    FAILED | SUSPENDING | SUSPENDED | DELETING | GONE) return 1 ;;
    UNKNOWN)
      unread=$((unread + 1))
      ((unread < FAILURES_OF_WAITING)) || explain "reading the state of $NAME"
      ;;
    *) unread=0 ;;
    esac
    sleep "$POLL_SECONDS"
  done
}

# recreate: after a preemption. The same request under the same name, deleted first: a suspended
# request never comes back, and holds its name and its quota. 1 if that should be tried again.
recreate() {
  read_state
  [[ $STATE != UNKNOWN ]] || return 1
  if [[ $STATE != GONE ]] || ((DRY_RUN)); then
    read_ownership
    [[ $OWNED != unknown ]] || return 1
    [[ $OWNED == yes ]] ||
      die "$NAME does not carry the label written when it was created (lilith_launch=$OWNER): it is someone else's, so it was not deleted and the run was not restarted"
    delete_resource || return 1
  fi
  create_resource
}
