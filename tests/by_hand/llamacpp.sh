#!/usr/bin/env bash
# llama.cpp's server beside this package: prints the largest difference of their scores. It needs llama-server and
# convert_hf_to_gguf.py, both of a clone of llama.cpp that was built, and a model that the converter knows, such as
# bge-reranker-base or -v2-m3 in a folder. Not run yet where these docs were written: there is no built one to install.
#     tests/by_hand/llamacpp.sh LLAMA_CPP MODEL_FOLDER [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/../.."

llama=$1
model=$2
python=${3:-.venv/bin/python}
port=18773
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; wait; rm -rf "$work"' EXIT

"$python" "$llama/convert_hf_to_gguf.py" "$model" --outtype f32 --outfile "$work/model.gguf"
"$llama/build/bin/llama-server" --model "$work/model.gguf" --reranking --host 127.0.0.1 --port "$port" \
    --ctx-size 8192 --batch-size 8192 --ubatch-size 8192 >"$work/log" 2>&1 &
server=$!
until curl --silent --fail "127.0.0.1:$port/health" >"$work/health"; do
    kill -0 "$server" || { tail -50 "$work/log"; exit 1; }
    sleep 1
done
"$python" -m tests.engines.compare "http://127.0.0.1:$port" llamacpp "$model"
