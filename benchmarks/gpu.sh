#!/usr/bin/env bash
# Measures trickzoo on a GPU, in stages that can be run one by one:
#
#   bash benchmarks/gpu.sh throughput DATA OUT    # training steps, compared with timm's loop and with the bare step
#   bash benchmarks/gpu.sh ladder DATA OUT        # the ladder of a ResNet, several trainings at once
#   bash benchmarks/gpu.sh weights DATA OUT       # the trainings of the zoo's own weights
#   bash benchmarks/gpu.sh transfer DATA OUT      # detectors and segmenters on the backbones of that ladder
#
# DATA is a folder with imagenette128/, and for the transfer with bccd/ and camvid/. Small results go to OUT; checkpoints stay in RUNS.
# A stage that was stopped goes on when it is started again. SECONDS_AT_MOST stops a stage, which then reports what is finished.
# MODEL, SIZE, EPOCHS, SEEDS, JOBS, ROUNDS, TUNE_EPOCHS, RUNGS, RECIPES, TRAIN_OPTIONS and TRANSFER_OPTIONS replace the settings below.
# SMALL=1 runs the same commands with a small network and few epochs, to try them.
#
# Trainings of small networks use little of a GPU. With NVIDIA's multi-process service, if it is there, their kernels run side by side;
# MPS=0 does without it.
set -euo pipefail

stage=${1:?stage} data=$(realpath "${2:?folder of data}") out=$(realpath -m "${3:?folder of results}")
runs=${RUNS:-$(pwd)/runs/gpu} python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$root:${PYTHONPATH:-} TRICKZOO_HOME=${TRICKZOO_HOME:-$runs/home} OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$out" "$runs"

if [ "${SMALL:-}" ]; then
    model=${MODEL:-mobilenet_v1_025} size=${SIZE:-32} epochs=${EPOCHS:-1} seeds=${SEEDS:-1} jobs=${JOBS:-2} tune=${TUNE_EPOCHS:-1} rounds=${ROUNDS:-1}
    precision=()
else
    model=${MODEL:-resnet50_d} size=${SIZE:-128} epochs=${EPOCHS:-80} seeds=${SEEDS:-1} jobs=${JOBS:-8} tune=${TUNE_EPOCHS:-40} rounds=${ROUNDS:-5}
    precision=(--low-precision bf16)
fi
rungs=(${RUNGS:+--rungs "$RUNGS"})
study=ladder-${model//_/-}-$epochs-epochs

zoo() { "$python" -m trickzoo "$@"; }

# Runs trickzoo for SECONDS_AT_MOST. It then saves checkpoints, and the stage reports the finished trainings.
limited() {
    local status=0
    timeout --signal=TERM --kill-after=30 "${SECONDS_AT_MOST:-0}" "$python" -m trickzoo "$@" || status=$?
    [ $status = 0 ] || [ $status = 124 ] || exit $status
}

if [ "${MPS:-1}" = 1 ] && command -v nvidia-cuda-mps-control >/dev/null && ! pgrep -f nvidia-cuda-mps-control >/dev/null; then
    nvidia-cuda-mps-control -d || echo "the multi-process service does not start; the trainings share the GPU in turns" >&2
fi

case $stage in
throughput)
    (cd "$root" && "$python" -m benchmarks.speed training --data "$data/imagenette128" --n "$rounds" ${COMPILED:+--compiled})
    mv "$root/benchmarks/results/speed/training.json" "$out/training_gpu${COMPILED:+_compiled}.json"
    ;;
ladder)
    options=(--set imagenette128 --data "$data/imagenette128" --model "$model" --size "$size" --epochs "$epochs" --seeds "$seeds"
        "${precision[@]}" "${rungs[@]}" --out "$runs/$study")
    limited ladder "${options[@]}" --jobs "$jobs"
    zoo ladder "${options[@]}" --report-only
    mkdir -p "$out/$study"
    (cd "$runs/$study" && cp --parents ladder.* report.html ./*-[0-9]*/result.json "$out/$study/")
    ;;
weights)
    for ((seed = 0; seed < seeds; seed++)); do
        for recipe in ${RECIPES:?names of recipes}; do
            limited train --recipe "$recipe" --data "$data/imagenette128" --decode once --seed "$seed" --evaluate-every 50 \
                --out "$runs/$recipe-$seed" ${TRAIN_OPTIONS:-} ${SMALL:+--epochs 1 --warmup-epochs 0 --size 32 --start-size none} &
        done
    done
    wait
    (cd "$runs" && cp --parents zoo.*/result.json zoo.*/log.csv "$out/") || true
    ;;
transfer)
    options=(--checkpoints "$runs/$study" --detection voc --detection-data "$data/bccd" --detection-recipe small.detection
        --segmentation lists --segmentation-data "$data/camvid" --segmentation-recipe small.segmentation
        --seeds "$seeds" "${rungs[@]}" --epochs "$tune" --pictures 0)
    limited transfer "${options[@]}" --jobs "$jobs" --workers 1 ${TRANSFER_OPTIONS:-}
    zoo transfer "${options[@]}" ${TRANSFER_OPTIONS:-} --report-only
    mkdir -p "$out/$study-transfer"
    (cd "$runs/$study/transfer" && cp --parents transfer.* report.html ./*/*/result.json "$out/$study-transfer/")
    ;;
*)
    echo "no stage $stage; there are throughput, ladder, weights and transfer" >&2
    exit 2
    ;;
esac
