# What all batch files of a run share; `redone submit` puts it beside them, and they source it.
#
# A batch file sets STATE (folder of its stage), MAX_SIGNALS, MAX_FAILURES, NODE_FAILURES, WAIT_SECONDS, NODES and RANKS
# (a node), then calls `begin` and `run [OPTIONS OF SRUN --] PROGRAM ARGUMENTS`. Kept in STATE:
#
#   events.log               a line whenever something happens to the job; `verdict=` says how an attempt ended
#   attempt-N/rank-R.log     what rank R wrote in attempt N
#   attempt-N/srun.log       what srun said of it
#   before/JOB/              both, of an earlier submission
#   ../failed_nodes.log      nodes on which attempts of the run failed
#
# How an attempt ends decides what follows:
#   0        done: the jobs behind this one start
#   75       checkpointed after the signal before the limit of time: the same job again, MAX_SIGNALS times at most
#   1, 2     an error that would come again, bad input: the job fails, and what waits for it is cancelled
#   others   a process or its node was lost: again, MAX_FAILURES times at most, without nodes that failed often

ID=${SLURM_JOB_ID:?this is a batch file of Slurm: submit it with sbatch}
ATTEMPT=${SLURM_RESTART_COUNT:-0}
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then STATE=$STATE/task-$SLURM_ARRAY_TASK_ID; fi
EVENTS=$STATE/events.log
FAILED_NODES=${RUN_STATE:?}/failed_nodes.log
LOGS=$STATE/attempt-$ATTEMPT
NODELIST=${SLURM_JOB_NODELIST_HET_GROUP_0:-$SLURM_JOB_NODELIST}
STOP='' TOLD=''

note() { # WORDS: into the events, and into the job's own log
  echo "$(date +%FT%T) job=$ID attempt=$ATTEMPT $*" >>"$EVENTS"
  echo "[$(date +%T)] attempt $ATTEMPT: $*"
}

times() { # VERDICT: how often attempts of this job ended so
  grep -c " job=$ID .* verdict=$1\( \|\$\)" "$EVENTS"
}

blame() { # NODE WHY
  [ -z "$1" ] || echo "$(date +%FT%T) $1 job=$ID attempt=$ATTEMPT $2" >>"$FAILED_NODES"
}

excluded() { # nodes that failed too often, with commas
  [ -f "$FAILED_NODES" ] || return 0
  cut -d' ' -f2 "$FAILED_NODES" | sort | uniq -c | awk -v most="$NODE_FAILURES" '$1 >= most {print $2}' | paste -sd,
}

down() { # NODELIST: those of it that Slurm cannot reach or calls down
  sinfo -h -N -n "$1" -o '%N %T' | awk '$2 ~ /^down|^fail|\*$/ {print $1}' | sort -u
}

head_node() { scontrol show hostnames "$1" | head -n 1; }

address() { # NODE: what the others reach it by
  scontrol -o show node "$1" | grep -o ' NodeAddr=[^ ]*' | cut -d= -f2
}

again() { # puts this very job back into the queue, away from nodes that failed, and waits for its own end
  local away try
  away=$(excluded)
  trap '' TERM
  # refused where Slurm has seen the loss of a node itself and put the job back already; then this script is ended soon
  if ! scontrol requeue "$ID" &&
    ! scontrol -o show job "$ID" | grep -q 'JobState=\(PENDING\|COMPLETING\|NODE_FAIL\)'; then
    note "verdict=failed why=scontrol-requeue-refused"
    exit 1
  fi
  if [ -n "$away" ]; then
    for try in 1 2 3 4 5 6 7 8; do
      scontrol update JobId="$ID" ExcNodeList="$away" && break
      sleep 1
    done
  fi
  sleep 600 & wait $!
  exit 75
}

culprit() { # the node that an attempt failed on: one that is down, else that of the rank which the others had lost
  local node task
  node=$(down "$NODELIST" | head -n 1)
  # a rank that ends with 70 lost another one; that other one was killed (srun tells how), or is stuck ("running")
  [ -n "$node" ] || node=$(grep '^srun: error: [^ :]*: task' "$LOGS/srun.log" |
    grep -v 'exit code \(70\|75\)$' | head -n 1 | sed 's/^srun: error: \([^ :]*\):.*/\1/')
  if [ -z "$node" ]; then
    task=$(sed -n 's/^srun: .* tasks\{0,1\} \([0-9]*\)[^:]*: running$/\1/p' "$LOGS/srun.log" | head -n 1)
    [ -z "$task" ] || node=$(scontrol show hostnames "$NODELIST" | sed -n "$((task / RANKS + 1))p")
  fi
  echo "$node"
}

after_failure() { # WHY: again, or the end
  if [ $(($(times lost) + $(times crashed))) -gt "$MAX_FAILURES" ]; then
    note "verdict=failed why=$1-more-than-$MAX_FAILURES-times"
    exit 1
  fi
}

make_room() { # logs of an earlier submission are kept aside
  local earlier
  earlier=$(cat "$STATE/job" 2>/dev/null)
  if [ -n "$earlier" ] && [ "$earlier" != "$ID" ]; then
    mkdir -p "$STATE/before/$earlier"
    mv "$STATE"/attempt-* "$STATE/before/$earlier/" 2>/dev/null
  fi
  mkdir -p "$STATE"
  echo "$ID" >"$STATE/job"
}

begin() {
  make_room
  mkdir -p "$LOGS"
  touch "$EVENTS"
  trap 'STOP=1; note "signal=USR1"' USR1
  trap 'TOLD=1; note "verdict=told signal=TERM"' TERM
  local last nodes lost node away
  last=$(grep " job=$ID " "$EVENTS" | tail -n 1)
  if [ "$ATTEMPT" -gt 0 ]; then
    # the attempt before left no verdict: its batch node is gone; or it was told to end, by an operator or for a node
    case $last in *verdict=requeued* | *verdict=crashed* | *verdict=moved*) ;; *)
      nodes=$(grep " job=$ID .* nodes=" "$EVENTS" | tail -n 1 | sed 's/.* nodes=\([^ ]*\).*/\1/')
      lost=$(down "$nodes")
      case $last in *verdict=told*) ;; *) lost=${lost:-$(head_node "$nodes")} ;; esac
      for node in $lost; do blame "$node" lost; done
      if [ -n "$lost" ]; then
        note "verdict=lost of=$((ATTEMPT - 1)) node=$(echo $lost | tr ' ' ,)"
        after_failure lost
      fi ;;
    esac
  fi
  away=$(excluded)
  for node in $(scontrol show hostnames "$NODELIST"); do
    case ,$away, in *,$node,*) note "verdict=moved away=$node"; again ;; esac
  done
  note "began nodes=$NODELIST"
  MASTER_ADDR=$(address "$(head_node "$NODELIST")")
  MASTER_PORT=$((20000 + (ID * 7 + ATTEMPT) % 10000))
  export MASTER_ADDR MASTER_PORT
}

run() { # the ranks of this attempt; decides what becomes of the job, and does not return
  local options=() step code culprit
  if [[ " $* " == *" -- "* ]]; then
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
  fi
  # A rank that ends does not end the others at once (--kill-on-bad-exit): they may be about to end in good order too.
  # USR1 is ignored until the program listens to it; by default it would kill.
  srun --nodes="$NODES" --ntasks=$((NODES * RANKS)) --ntasks-per-node="$RANKS" --cpus-per-task="$CPUS" \
    --distribution=block --kill-on-bad-exit=0 --wait="$WAIT_SECONDS" --export=ALL --open-mode=append \
    --output="$LOGS/rank-%t.log" "${options[@]}" \
    bash -c 'trap "" USR1; exec "$@"' rank "$@" 2>>"$LOGS/srun.log" &
  step=$!
  while kill -0 "$step" 2>/dev/null; do
    if [ -n "$STOP" ]; then
      scancel --signal=USR1 "$ID" 2>/dev/null # to the ranks, not to this script; again until they have heard it
      sleep 2 & wait $!
    else
      wait "$step"
    fi
  done
  wait "$step"
  code=$?
  [ "$code" -ne 1 ] || compgen -G "$LOGS/rank-*.log" >/dev/null || code=70 # no rank was started
  culprit=$(culprit)
  case $code in
    0) note "ended code=0 verdict=done"; exit 0 ;;
    75)
      if [ -n "$TOLD" ]; then exit 75; fi
      if [ "$(times requeued)" -ge "$MAX_SIGNALS" ]; then
        note "ended code=75 verdict=failed why=requeued-$MAX_SIGNALS-times-already"
        exit 75
      fi
      note "ended code=75 verdict=requeued"
      again ;;
    1 | 2 | 130) note "ended code=$code verdict=failed"; exit "$code" ;;
    *)
      if [ -n "$TOLD" ]; then exit "$code"; fi
      note "ended code=$code verdict=crashed node=$culprit"
      blame "$culprit" "code=$code"
      after_failure crashed
      again ;;
  esac
}
