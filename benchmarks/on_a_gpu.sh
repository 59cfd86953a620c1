#!/usr/bin/env bash
# On a machine with a GPU and its own CUDA build of torch, without a network: installs the bundle
# beside itself (nothing of the machine's own Python is changed), builds mmcv for the GPU that is
# there, and runs benchmarks/on_a_gpu.py with the arguments given.
#   PYTHON=python3  the Python that has torch
set -euo pipefail
bundle=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
site=$bundle/site
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
"$python" -c 'import torch' || { echo "$python has no torch; name one that has: PYTHON=… $0" >&2; exit 1; }
install() { "$python" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$site" "$@"; }
install "$bundle"/wheels/*.whl
works() { "$python" -W ignore -c 'import torch, mmcv.ops; mmcv.ops.nms(torch.rand(9, 4).cuda(), torch.rand(9).cuda(), 0.5)'; }
if ! works 2> /dev/null; then
  echo 'Building mmcv for this GPU'
  arch=$("$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())')
  (cd "$bundle" && FORCE_CUDA=1 MMCV_WITH_OPS=1 TORCH_CUDA_ARCH_LIST=$arch MAX_JOBS=$(nproc) CFLAGS=-g0 \
    "$python" -m pip wheel -q --no-index --no-build-isolation --no-deps -w built mmcv-*.tar.gz)
  install "$bundle"/built/mmcv-*.whl
  works
fi
missing=$("$python" -W ignore - <<'P'
import importlib.util as u
names = dict(cv2='opencv-python-headless', numpy='numpy', scipy='scipy', matplotlib='matplotlib', PIL='pillow',
             sklearn='scikit-learn', pycocotools='pycocotools', shapely='shapely', yaml='pyyaml')
print(*[package for module, package in names.items() if u.find_spec(module) is None])
P
)
[ -z "$missing" ] || { echo "missing here: $missing; make the bundle without them in HAS" >&2; exit 1; }
mkdir -p "$bundle/project"
tar -xf "$bundle/project.tar" -C "$bundle/project"
cd "$bundle/project"
"$python" -W ignore benchmarks/on_a_gpu.py --out "${OUT:-$bundle/results}" "$@"
