#!/usr/bin/env bash
# Trains the tiny model from scratch: tokenizer, vision encoder, projector, a decoder of 8 layers, and two decoders of
# 32 layers, both exported. Start the script again to resume a stopped run. WORK is the output folder; PROCESSES is the
# number of processes, one per core.
set -euo pipefail
cd "$(dirname "$0")"
WORK=${WORK:-work} PYTHON=${PYTHON:-python3} PROCESSES=${PROCESSES:-2}
export OMP_NUM_THREADS=1
train() { "$PYTHON" -m torch.distributed.run --nproc_per_node "$1" "${@:2}"; }
inputs=(--tower "$WORK/tower/tower.pt" --tokenizer "$WORK/tokenizer")

[ -e "$WORK/tokenizer" ] || "$PYTHON" make_tokenizer.py --out "$WORK/tokenizer"
train "$PROCESSES" train_tower.py --out "$WORK/tower" --crop-steps 6000 --full-steps 3500
[ -e "$WORK/aligned/model.pt" ] || "$PYTHON" align_projector.py "${inputs[@]}" --out "$WORK/aligned"
train "$PROCESSES" train_decoder.py "${inputs[@]}" --out "$WORK/decoder8" --init "$WORK/aligned/model.pt" --first 1 --pictures 4 \
  --steps 6000 --decay 0.6 --watch "asked:2:0,1 held:4:0,1 letter:5:0,1 held:6:0,1"
for policy in none pyramiddrop; do
  train 1 train_decoder.py "${inputs[@]}" --out "$WORK/$policy" --init "$WORK/decoder8/model.pt" --layers 32 --policy $policy \
    --tokens 576 --lanes 2 --pictures 3 --first 1 --steps 700 --decay 1.0 --muon-rate 1e-3 --adam-rate 1e-4 --seed 4
  "$PYTHON" export.py "${inputs[@]}" --decoder "$WORK/$policy/model.pt" --out "$WORK/model-$policy"
done
"$PYTHON" make_eval.py --out "$WORK/eval"
"$PYTHON" make_eval.py --out "$WORK/eval/few" --layout few --images 60 --seed 13579
for policy in none pyramiddrop; do
  "$PYTHON" evaluate.py --model "$WORK/model-$policy" --data "$WORK/eval"
done
