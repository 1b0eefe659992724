#!/usr/bin/env bash
# SPPO, its rivals in the same engine and PPO of Stable-Baselines3, from the same priors on the six control tasks, five seeds each; nothing
# tuned: all have the starting points in benchmarks/hyperparams.
# Resumable: give the same command again after a kill. One task, three algorithms: ALGOS="sppo ppo sb3-ppo" benchmarks/control_comparison.sh Hopper
# The other rivals, into a folder of their own: NAME=control_rivals ALGOS="ppo-bce grpo rloo remax" benchmarks/control_comparison.sh
# Five seeds more of all: NAME=control_more_seeds FIRST_SEED=5 benchmarks/control_comparison.sh
set -euo pipefail
cd "$(dirname "$0")/.."
name=${NAME:-control_comparison}
algos=${ALGOS:-sppo ppo ppo-bce grpo rloo remax sb3-ppo}
command=${SPPO_RL:-.venv/bin/sppo-rl}
declare -A episodes=(
  [PrecisionCartPole200]=5000 [PrecisionCartPole]=1500 [MountainCar]=1000 [Pendulum]=1000 [LunarLander]=1500 [Hopper]=600
)
tasks=("$@")
[ ${#tasks[@]} -gt 0 ] || tasks=(PrecisionCartPole200 MountainCar Pendulum PrecisionCartPole LunarLander Hopper)
for task in "${tasks[@]}"; do
  count=${episodes[$task]}
  "$command" compare --env "sppo_rl/$task-v0" --algos $algos --seeds "${SEEDS:-5}" --first-seed "${FIRST_SEED:-0}" --episodes "$count" \
    --conf-file benchmarks/hyperparams --eval-every $((count / 10)) --eval-episodes 100 --jobs "${JOBS:-2}" --output "runs/$name/$task"
  mkdir -p "benchmarks/results/$name/$task"
  cp "runs/$name/$task"/{results.csv,summary.csv,references.csv,provenance.json,table.md,plot.png} "benchmarks/results/$name/$task/"
done
