#!/usr/bin/env bash
# Measures trickzoo on a GPU, in stages that can be run one by one:
#
#   bash benchmarks/gpu.sh throughput DATA OUT    # training steps, compared with timm and with the bare step
#   bash benchmarks/gpu.sh ladder DATA OUT        # the ladder of a ResNet, with as many seeds as SEEDS
#   bash benchmarks/gpu.sh transfer DATA OUT      # detectors and segmenters on the backbones of that ladder
#
# DATA is a folder with imagenette128/, and for the transfer with bccd/ and camvid/. Small results go to OUT; checkpoints stay in RUNS.
# A stage that was stopped goes on when it is started again. SMALL=1 runs the same commands with a small network and few epochs, to try them.
set -euo pipefail

stage=${1:?stage} data=$(realpath "${2:?folder of data}") out=$(realpath -m "${3:?folder of results}")
runs=${RUNS:-$(pwd)/runs/gpu} python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$root TRICKZOO_HOME=${TRICKZOO_HOME:-$runs/home}
mkdir -p "$out" "$runs"

if [ "${SMALL:-}" ]; then
    model=mobilenet_v1_025 size=64 epochs=1 seeds=${SEEDS:-1} jobs=${JOBS:-2} tune=1 rounds=2 precision=()
else
    model=resnet50_d size=128 epochs=${EPOCHS:-80} seeds=${SEEDS:-1} jobs=${JOBS:-4} tune=40 rounds=10 precision=(--low-precision bf16)
fi

zoo() { "$python" -c 'from trickzoo.cli import trickzoo; trickzoo()' "$@"; }

case $stage in
throughput)
    cd "$root"
    "$python" -m benchmarks.speed training --data "$data/imagenette128" --n "$rounds"
    cp benchmarks/results/speed/training.json "$out/"
    ;;
ladder)
    zoo ladder --set imagenette128 --data "$data/imagenette128" --model "$model" --size "$size" --epochs "$epochs" --seeds "$seeds" \
        --jobs "$jobs" "${precision[@]}" --out "$runs/ladder"
    cp "$runs"/ladder/ladder.* "$runs/ladder/report.html" "$out/"
    for folder in "$runs"/ladder/*-[0-9]*/; do
        mkdir -p "$out/$(basename "$folder")"
        cp "$folder"/result.json "$folder"/log.csv "$out/$(basename "$folder")/"
    done
    ;;
transfer)
    zoo transfer --checkpoints "$runs/ladder" --detection voc --detection-data "$data/bccd" --segmentation lists \
        --segmentation-data "$data/camvid" --seeds "$seeds" --epochs "$tune" --pictures 0 --jobs "$jobs"
    cp "$runs"/ladder/transfer/transfer.* "$runs/ladder/transfer/report.html" "$out/"
    ;;
*)
    echo "no stage $stage; there are throughput, ladder and transfer" >&2
    exit 2
    ;;
esac
