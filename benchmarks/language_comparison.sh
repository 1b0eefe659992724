#!/usr/bin/env bash
# SPPO and its rivals on the tiny language task, five seeds: at equal responses in an update, and at equal prompts.
# Resumable: give the same command again after a kill. One study, fewer seeds: SEEDS=2 benchmarks/language_comparison.sh equal_prompts
# The others in benchmarks/language/ are run by their names.
set -euo pipefail
cd "$(dirname "$0")/.."
command=${SPPO_RL:-.venv/bin/sppo-rl}
studies=("$@")
[ ${#studies[@]} -gt 0 ] || studies=(equal_responses equal_prompts)
for study in "${studies[@]}"; do
  folder=runs/language/$study
  # sppo and ppo are the same runs in all studies of the tiny task but those with problems of their own
  if [ "$study" != equal_responses ] && grep -q '^config: chain_sum_tiny$' "benchmarks/language/$study.yml" &&
    ! grep -q '^  problems:' "benchmarks/language/$study.yml"; then
    for variant in sppo ppo; do
      finished=runs/language/equal_responses/runs/$variant
      if [ -d "$finished" ] && [ ! -d "$folder/runs/$variant" ]; then
        mkdir -p "$folder/runs"
        cp -r "$finished" "$folder/runs/"
      fi
    done
  fi
  "$command" compare-llm --study "benchmarks/language/$study.yml" --seeds "${SEEDS:-5}" --jobs "${JOBS:-2}" --output "$folder"
  mkdir -p "benchmarks/results/language/$study"
  cp "$folder"/{results.csv,table.md,provenance.json,plot_tokens.png,plot_prompts.png,plot_seconds.png} "benchmarks/results/language/$study/"
done
