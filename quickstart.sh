#!/usr/bin/env bash
# From a piece of Wikipedia, which pip brought with gensim, to a small pre-trained ELECTRA.
# Run from the repository's root in an environment with requirements.txt. A second run continues.
set -euo pipefail
DATA=${1:-data/quickstart} RUN=${2:-runs/quickstart}
mkdir -p "$DATA"
step() { echo "+ $*" >&2; "$@"; }
[ -e "$DATA/corpus.txt" ] || step python -m data_tools.extract_wikipedia --output="$DATA/corpus.txt"
[ -e "$DATA/vocab.txt" ] || step python -m data_tools.build_vocab --input="$DATA/corpus.txt" \
  --output="$DATA/vocab.txt" --vocab_size=128 --limit_alphabet=45
[ -e "$DATA/records" ] || step python -m data_tools.build_pretraining_data --input="$DATA/corpus.txt" \
  --vocab_file="$DATA/vocab.txt" --output_dir="$DATA/records" --max_seq_length=32 \
  --validation_fraction=0.05
step python -m electra_keras.train --flagfile=configs/quickstart.cfg \
  --data_dir="$DATA/records" --model_dir="$RUN"
