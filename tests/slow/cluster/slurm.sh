#!/usr/bin/env bash
# A throw-away SLURM cluster of two pretended nodes on this machine, for the tests. As root, without
# systemd or cgroups; SLURM and munge have to be installed (slurmctld, slurmd, slurm-client, munge).
#
#   slurm.sh start DIR PORT    all state in DIR; SLURM_CONF is DIR/slurm.conf; uses PORT to PORT + 2
#   slurm.sh stop DIR
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
umask 022
dir=$(realpath -m "$2")
export SLURM_CONF=$dir/slurm.conf

within_20_s() { for _ in {1..100}; do if "$@"; then return 0; fi; sleep 0.2; done; return 1; }

# A recorded process counts while it runs with our folder on its command line.
alive() { tr '\0' ' ' <"/proc/$(cat "$dir/$1.pid")/cmdline" | grep -qF "$dir/"; } 2>/dev/null
dead() { ! alive "$1"; }
recorded() { find "$dir" -maxdepth 1 -name '*.pid' -printf '%f\n' | sed 's/\.pid$//' | sort -r; }
ready() { [[ $(sinfo -h -N -p debug -o %T 2>/dev/null | grep -c '^idle$') == 2 ]]; }
empty() { [[ -z $(squeue -h 2>/dev/null) ]]; }

stop() {
  if alive slurmctld; then squeue -h -o %A | xargs -r scancel -Q; within_20_s empty || true; fi
  for name in $(recorded); do if alive "$name"; then kill "$(cat "$dir/$name.pid")"; fi; done
  for name in $(recorded); do
    within_20_s dead "$name" || kill -9 "$(cat "$dir/$name.pid")"
    rm -f "$dir/$name.pid"
  done
}

start() {
  local port=$1 host bind='' address
  host=$(uname -n | cut -d. -f1)
  mkdir -p "$dir"/log "$dir"/state
  chmod 755 "$dir"
  # The option would bind to any address that the host's name has: use it where that is a loopback.
  address=$(getent ahostsv4 "$(uname -n)" | awk 'NR == 1 {print $1}' || true)
  if [[ $address == 127.* ]]; then bind=NoInAddrAny,NoCtldInAddrAny; else address=127.0.0.1; fi
  (umask 077; head -c 128 /dev/urandom >"$dir/munge.key")
  for i in 0 1; do : >"$dir/gpu$i"; echo "Name=gpu File=$dir/gpu$i"; done >"$dir/gres.conf"
  cat >"$SLURM_CONF" <<CONF
ClusterName=test$port
SlurmctldHost=$host($address)
SlurmctldPort=$port
CommunicationParameters=$bind
AuthInfo=socket=$dir/munge.socket,cred_expire=5 # a requeued job waits a second longer; less than 5 counts as 120
StateSaveLocation=$dir/state
SlurmctldPidFile=$dir/slurmctld.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdSpoolDir=$dir/spool-%n
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmdLogFile=$dir/log/slurmd-%n.log
SlurmdParameters=config_overrides # there may be fewer processors
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=128
EnforcePartLimits=ALL
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2,batch_sched_delay=0
KillWait=15
JobRequeue=1
ReturnToService=2
GresTypes=gpu
NodeName=n[1-2] NodeHostname=$host NodeAddr=$address Port=[$((port + 1))-$((port + 2))] CPUs=4 RealMemory=8000 Gres=gpu:2
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=preemptible Nodes=ALL MaxTime=INFINITE State=UP
CONF
  {
    munged --force --socket="$dir/munge.socket" --key-file="$dir/munge.key" \
      --pid-file="$dir/munged.pid" --log-file="$dir/log/munged.log" --seed-file="$dir/munged.seed"
    slurmctld -c -f "$SLURM_CONF"
    for node in n1 n2; do slurmd -N "$node" -f "$SLURM_CONF"; done
  } </dev/null >>"$dir/log/start.log" 2>&1 || { cat "$dir/log/start.log" >&2; stop; exit 1; }
  within_20_s ready || { tail -n 15 "$dir"/log/*.log >&2; stop; exit 1; }
}

case $1 in
  start) start "$3" ;;
  stop) stop ;;
esac
