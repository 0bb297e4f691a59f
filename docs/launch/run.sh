#!/usr/bin/env bash
# One host's share of a training run, under torchrun: start it, go on with it, and say by the exit code what came of it.
#
#   run.sh OUTPUT RECIPE [key=value ...]
#
# Run the same command on every host. 0: the run is finished (OUTPUT/model is there). 75 (PREEMPTED_CODE): it was told to stop,
# has saved itself, and the same command goes on with it. Anything else: it failed.
#
# torchrun alone will not do: it turns the 75 of its processes into a 1, and on SIGTERM gives them 30 seconds to save before it
# kills them. So torchrun is kept from hearing SIGTERM and SIGUSR1, and they are handed to its processes. A torchrun that does not
# know --signals-to-handle (torch 2.13 does) works without that line, where SIGTERM goes to this script alone (Kubernetes).
#
# From the environment:  NNODES=1  NPROC_PER_NODE=gpu (a number on CPUs)  RDZV_ENDPOINT=HOST:PORT, the same on every host
#                        RDZV_ID=run  LOCAL_ADDR=an address of this host that the others reach, where its name does not resolve
#                        PREEMPTED_CODE=75  PYTHON=python
set -uo pipefail

if [ $# -lt 2 ]; then
    echo "usage: run.sh OUTPUT RECIPE [key=value ...]" >&2
    exit 2
fi
output=$1
shift
nodes=${NNODES:-1}
if [ "$nodes" -gt 1 ] && [ -z "${RDZV_ENDPOINT:-}" ]; then
    echo "run.sh: $nodes hosts need RDZV_ENDPOINT=HOST:PORT, the same on all of them" >&2
    exit 2
fi

# an empty folder is a run without a checkpoint: --resume starts it, and no host has to know whether it is the first time
mkdir -p "$output" || exit 2

told=""
launcher=""
tell() {
    told=yes
    local child
    for child in $(cat /proc/"$launcher"/task/*/children 2>/dev/null); do
        kill -USR1 "$child" 2>/dev/null
    done
}
trap tell TERM USR1

(
    # ignored signals stay ignored in the processes started from here, until training takes SIGTERM and SIGUSR1 for itself:
    # who is told in the seconds before that goes on
    trap '' TERM USR1
    exec "${PYTHON:-python}" -m torch.distributed.run \
        --nnodes "$nodes" --nproc-per-node "${NPROC_PER_NODE:-gpu}" \
        --rdzv-backend c10d --rdzv-id "${RDZV_ID:-run}" --rdzv-endpoint "${RDZV_ENDPOINT:-localhost:0}" \
        ${LOCAL_ADDR:+--local-addr "$LOCAL_ADDR"} \
        --signals-to-handle SIGINT,SIGHUP,SIGQUIT \
        -m latentthought train "$@" --output "$output" --resume
) &
launcher=$!

code=0
wait "$launcher" || code=$?
while kill -0 "$launcher" 2>/dev/null; do # a signal ends `wait`, not the run
    code=0
    wait "$launcher" || code=$?
done

if [ -z "$told" ] || [ "$code" -eq 0 ]; then
    exit "$code"
elif [ -d "$output/model" ]; then # told when it was finished anyway
    exit 0
fi
exit "${PREEMPTED_CODE:-75}"
