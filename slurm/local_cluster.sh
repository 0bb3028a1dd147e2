#!/bin/bash
# A real Slurm on one host, without systemd: slurmctld, munged, one slurmd a node. For tests and for trying things out.
#
#   slurm/local_cluster.sh start            write the configuration, start all, wait until every node is idle
#   slurm/local_cluster.sh stop             end every process of it, remove its network
#   slurm/local_cluster.sh status           nodes and queue
#   slurm/local_cluster.sh kill-node n2     as if its power were cut: slurmd and all of its steps are gone at once
#   slurm/local_cluster.sh start-node n2    switch it on again
#   slurm/local_cluster.sh cut n2           pull its network cable (netns mode), or freeze its processes (plain mode)
#   slurm/local_cluster.sh heal n2          plug it in again
#   eval "$(slurm/local_cluster.sh env)"    SLURM_CONF for this shell, so that sbatch and the others find it
#
# Variables: CLUSTER_DIR (default runs/local_cluster), NODES (4), CPUS (4 a node, more than the host may have),
# GPUS (0 a node; counted by Slurm only, there is no device), CLUSTER_PORT (17000; two clusters need two),
# MODE: netns gives every node a network, a hostname and processes of its own (needs root); plain: all share the host's.
# By default netns where it works.
#
# Debian packages: slurmctld slurmd slurm-client munge iproute2 util-linux procps
set -euo pipefail

DIR=${CLUSTER_DIR:-runs/local_cluster}
mkdir -p "$DIR"
DIR=$(cd "$DIR" && pwd)
NODES=${NODES:-4} CPUS=${CPUS:-4} GPUS=${GPUS:-0}
[ -f "$DIR/settings" ] && . "$DIR/settings" # what `start` decided: MODE, PORT, NODES
PORT=${PORT:-${CLUSTER_PORT:-17000}}
PREFIX=rd$((PORT % 10000))              # of namespaces and interfaces, at most 15 letters with the rest
NETWORK=10.$((64 + PORT / 1000 % 64)).$((PORT % 250))
export SLURM_CONF=$DIR/slurm.conf

die() { echo "local_cluster.sh: $*" >&2; exit 1; }

namespaces_work() {
  [ "$(id -u)" = 0 ] && command -v ip nsenter unshare >/dev/null || return 1
  ip netns add "${PREFIX}try" 2>/dev/null || return 1
  ip link add "${PREFIX}br" type bridge 2>/dev/null && ip link del "${PREFIX}br"
  local works=$?
  ip netns del "${PREFIX}try"
  return $works
}

write_configuration() {
  mkdir -p "$DIR/state" "$DIR/log"
  chmod 755 "$DIR"
  local user controller=127.0.0.1
  user=$(id -un)
  [ "$MODE" = netns ] && controller=$NETWORK.254
  cat >"$DIR/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=$(hostname)($controller)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
# cred_expire: Slurm waits so long (by default 120 s) before a job that was requeued may start again
AuthInfo=socket=$DIR/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/%n.spool
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/%n.log
SlurmctldPort=$PORT
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# the nodes may claim more cores than the host has
SlurmdParameters=config_overrides
GresTypes=gpu
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
JobRequeue=1
SlurmctldTimeout=30
SlurmdTimeout=20
MessageTimeout=10
KillWait=10
MinJobAge=7200
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=200000,sched_interval=2,bf_interval=2,batch_sched_delay=1
PartitionName=main Nodes=ALL Default=YES MaxTime=7-00:00:00 State=UP
PartitionName=brief Nodes=ALL MaxTime=00:30:00 State=UP
CONF
  local i address port gres=""
  [ "$GPUS" -gt 0 ] && gres="Gres=gpu:$GPUS"
  for i in $(seq "$NODES"); do
    if [ "$MODE" = netns ]; then address="NodeAddr=$NETWORK.$i" port=$((PORT + 1))
    else address="NodeHostname=$(hostname) NodeAddr=127.0.0.1" port=$((PORT + i)); fi
    echo "NodeName=n$i $address Port=$port CPUs=$CPUS RealMemory=4000 $gres State=UNKNOWN" >>"$DIR/slurm.conf"
  done
  if [ "$GPUS" -gt 0 ]; then echo "NodeName=n[1-$NODES] Name=gpu Count=$GPUS"; fi >"$DIR/gres.conf"
  printf 'MODE=%s PORT=%s NODES=%s\n' "$MODE" "$PORT" "$NODES" >"$DIR/settings"
}

start_munge() {
  if [ ! -f "$DIR/munge.key" ]; then
    (umask 077 && dd if=/dev/urandom of="$DIR/munge.key" bs=1024 count=1 status=none)
  fi
  munged --force --key-file="$DIR/munge.key" --socket="$DIR/munge.socket" --pid-file="$DIR/munged.pid" \
    --log-file="$DIR/log/munged.log" --seed-file="$DIR/munge.seed" --num-threads=2 2>>"$DIR/log/munged.out"
}

network_up() {
  local i
  ip link add "${PREFIX}br" type bridge
  ip addr add "$NETWORK.254/24" dev "${PREFIX}br"
  ip link set "${PREFIX}br" up
  { echo "127.0.0.1 localhost"; echo "$NETWORK.254 $(hostname)"; } >"$DIR/hosts"
  for i in $(seq "$NODES"); do
    ip netns add "${PREFIX}n$i"
    ip link add "${PREFIX}v$i" type veth peer name eth0 netns "${PREFIX}n$i"
    ip link set "${PREFIX}v$i" master "${PREFIX}br" up
    ip -n "${PREFIX}n$i" link set lo up
    ip -n "${PREFIX}n$i" addr add "$NETWORK.$i/24" dev eth0
    ip -n "${PREFIX}n$i" link set eth0 up
    echo "$NETWORK.$i n$i" >>"$DIR/hosts"
  done
}

network_down() {
  local name
  for name in $(ip netns list | awk '{print $1}' | grep "^${PREFIX}n" || true); do ip netns del "$name"; done
  ip link del "${PREFIX}br" 2>/dev/null || true
}

start_node() { # n1
  local node=$1
  mkdir -p "$DIR/$node.spool"
  if [ "$MODE" = plain ]; then
    slurmd -N "$node" -f "$DIR/slurm.conf" >>"$DIR/log/$node.out" 2>&1
    return
  fi
  # nsenter and not `ip netns exec`, which mounts a /sys without the control groups that slurmd looks for.
  # The shell is process 1 of the node: when it is killed, the kernel kills every process of the node at once.
  nsenter --net="/run/netns/$PREFIX$node" unshare --uts --pid --mount --fork --kill-child --mount-proc bash -c "
    hostname $node
    mount --bind '$DIR/hosts' /etc/hosts
    slurmd -D -N $node -f '$DIR/slurm.conf' &
    while :; do wait -n 2>/dev/null || sleep 1; done" </dev/null >>"$DIR/log/$node.out" 2>&1 &
  echo $! >"$DIR/$node.box"
  disown
}

processes_of() { # node: slurmd and steps with all below them, in plain mode
  local pid
  for pid in $(pgrep -x 'slurmd|slurmstepd' || true); do
    if [ "$(cat "$DIR/$1.pid" 2>/dev/null)" = "$pid" ] || ls -l "/proc/$pid/fd" 2>/dev/null | grep -qF "$DIR/log/$1.log"
    then tree_of "$pid"; fi
  done
}

tree_of() { # process and all of its descendants
  local child
  echo "$1"
  for child in $(ps -o pid= --ppid "$1"); do tree_of "$child"; done
}

box_of() { # process 1 of a node in netns mode, as this host sees it
  ps -o pid= --ppid "$(cat "$DIR/$1.box" 2>/dev/null || echo 0)" | tr -d ' '
}

kill_node() {
  if [ "$MODE" = netns ]; then kill -9 $(box_of "$1") $(cat "$DIR/$1.box") 2>/dev/null || true
  else kill -9 $(processes_of "$1") 2>/dev/null || true; fi
  rm -f "$DIR/$1.box" "$DIR/$1.pid"
}

wait_idle() {
  local try
  for try in $(seq 150); do
    [ "$(sinfo -h -N -p main -o %T 2>/dev/null | grep -c '^idle$')" = "$NODES" ] && return
    sleep 0.2
  done
  sinfo -N -l >&2 || true
  die "nodes not idle after 30 s; see $DIR/log"
}

start() {
  [ ! -f "$DIR/slurmctld.pid" ] || die "$DIR: a cluster runs here already; stop it first"
  MODE=${MODE:-$(namespaces_work && echo netns || echo plain)}
  write_configuration
  start_munge
  [ "$MODE" = plain ] || network_up
  slurmctld -c -f "$DIR/slurm.conf" 2>>"$DIR/log/slurmctld.out" # -c: forgets the jobs of an earlier one
  local i
  for i in $(seq "$NODES"); do start_node "n$i"; done
  wait_idle
  sinfo
}

stop() {
  local i pid name
  [ -f "$DIR/settings" ] || return 0
  for i in $(seq "$NODES"); do kill_node "n$i"; done
  for name in slurmctld munged; do
    pid=$(cat "$DIR/$name.pid" 2>/dev/null || true)
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    for i in $(seq 50); do { [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; } || break; sleep 0.1; done
  done
  [ "$MODE" = plain ] || network_down
  rm -f "$DIR"/*.pid "$DIR"/*.box "$DIR/settings"
}

link() { # down|up node
  if [ "$MODE" = netns ]; then ip link set "${PREFIX}v${2#n}" "$1"
  elif [ "$1" = down ]; then kill -STOP $(processes_of "$2")
  else kill -CONT $(processes_of "$2"); fi
}

case ${1:-} in
start) start ;;
stop) stop ;;
status) sinfo -N -l; squeue -o "%.8i %.20j %.10T %.6D %R" ;;
kill-node) kill_node "$2" ;;
start-node) start_node "$2" ;;
cut) link down "$2" ;;
heal) link up "$2" ;;
env) echo "export SLURM_CONF='$SLURM_CONF'" ;;
*) sed -n '2,19s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
