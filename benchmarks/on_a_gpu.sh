#!/usr/bin/env bash
# On a machine with a GPU and its own CUDA build of torch, without a network: installs the bundle
# beside itself (nothing of the machine's own Python is changed), builds mmcv for the GPU that is
# there, and runs benchmarks/on_a_gpu.py with the arguments given.
#   PYTHON=python3  the Python that has torch
set -euo pipefail
bundle=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
site=$bundle/site
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} PYTHONWARNINGS=ignore
fail() { echo "$0: $1" >&2; exit 1; }
install() { "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$site" "$@"; }

"$python" -c 'import torch' || fail "$python has no torch; name one that has: PYTHON=…"
install "$bundle"/wheels/*.whl
missing=$("$python" - <<'P'
from importlib.util import find_spec
names = dict(cv2='opencv-python-headless', numpy='numpy', scipy='scipy', matplotlib='matplotlib',
             PIL='pillow', sklearn='scikit-learn')
print(*[package for module, package in names.items() if find_spec(module) is None])
P
)
[ -z "$missing" ] || fail "this Python lacks $missing; make the bundle without these in HAS"
"$python" -c 'import torch; torch.rand(1).cuda()' 2> /dev/null || fail 'torch sees no GPU here'

works() {
  "$python" -c 'import torch as t, mmcv.ops; mmcv.ops.nms(t.rand(9, 4).cuda(), t.rand(9).cuda(), 0.5)'
}
ls "$bundle"/built/mmcv-*.whl > /dev/null 2>&1 && install "$bundle"/built/mmcv-*.whl  # an earlier call's
if ! works 2> /dev/null; then
  echo 'Building mmcv for this GPU'
  arch=$("$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())')
  FORCE_CUDA=1 MMCV_WITH_OPS=1 TORCH_CUDA_ARCH_LIST=$arch MAX_JOBS=$(nproc) CFLAGS=-g0 \
    "$python" -m pip wheel -q --no-index --no-build-isolation --no-deps \
    -w "$bundle/built" "$bundle"/mmcv-*.tar.gz
  install "$bundle"/built/mmcv-*.whl
  works
fi

mkdir -p "$bundle/project"
tar -xf "$bundle/project.tar" -C "$bundle/project"
cd "$bundle/project"
exec "$python" benchmarks/on_a_gpu.py --out "${OUT:-$bundle/results}" "$@"
