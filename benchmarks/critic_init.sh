#!/usr/bin/env bash
# How SPPO's result hangs on the critic's first prediction: critic_init as benchmarks/hyperparams/sppo.yml does not set it (.5 in place of the
# first batch's mean; on MountainCar the reverse). Five seeds, budgets and evaluations as in control_comparison.sh, whose row of SPPO each
# is compared with. Resumable.
set -euo pipefail
cd "$(dirname "$0")/.."
command=${SPPO_RL:-.venv/bin/sppo-rl}
declare -A episodes=([PrecisionCartPole]=1500 [MountainCar]=1000 [Pendulum]=1000)
declare -A other=([PrecisionCartPole]=None [MountainCar]=first_batch [Pendulum]=None)
tasks=("$@")
[ ${#tasks[@]} -gt 0 ] || tasks=(PrecisionCartPole MountainCar Pendulum)
for task in "${tasks[@]}"; do
  count=${episodes[$task]}
  "$command" compare --env "sppo_rl/$task-v0" --algos sppo --seeds "${SEEDS:-5}" --episodes "$count" \
    --conf-file benchmarks/hyperparams --hyperparams "sppo.critic_init=${other[$task]}" --eval-every $((count / 10)) --eval-episodes 100 --jobs "${JOBS:-2}" \
    --output "runs/critic_init/$task"
  mkdir -p "benchmarks/results/critic_init/$task"
  cp "runs/critic_init/$task"/{results.csv,summary.csv,references.csv,provenance.json,table.md} "benchmarks/results/critic_init/$task/"
done
