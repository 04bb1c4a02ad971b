"""Writes a trained checkpoint as a Hugging Face model directory with int8 matrices and power-of-two row scales.

    python3 training/export.py --checkpoint DIR --out models/default

Every matrix W becomes W (int8 [out, in]) and W_scale (fp32 [out]), a power of two, so that int8 * scale is exactly a bf16
number; gains stay fp32. The last training run saw exactly these rounded weights (model.fake_quantised).
"""

import argparse
import json
import pathlib

import checkpoint
import torch
from contexts import NONE
from model import Config, row_scales
from safetensors.torch import save_file

LIMIT_BYTES = 28 * 2**20


def quantised(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of model.safetensors: int8 matrices with their scales, fp32 gains."""
    out = {}
    for name, tensor in weights.items():
        if tensor.ndim == 2:
            scale = row_scales(tensor)
            out[name] = (tensor / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
            out[f"{name}_scale"] = scale
        else:
            out[name] = tensor.float()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--refusal-scale", type=float, default=1.0, help="factor on the row of <none>, and so on its logit (fit_refusal.py)")
    arguments = parser.parse_args()
    config = Config.from_file(arguments.checkpoint / "config.json")
    weights = checkpoint.load(arguments.checkpoint)
    weights["model.embed_tokens.weight"][NONE] *= arguments.refusal_scale
    tensors = quantised(weights)
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(arguments.out / "model.safetensors"), metadata={"format": "pt"})
    (arguments.out / "coverage_calibration.json").unlink(missing_ok=True)  # of other weights: the server would refuse to start with it
    (arguments.out / "config.json").write_text(json.dumps(config.to_json(), indent=2) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in arguments.out.iterdir())
    cached = config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 2 * 2
    print(f"{sum(t.numel() for n, t in tensors.items() if not n.endswith('_scale')) / 1e6:.1f}M parameters, {size / 2**20:.2f} MiB in {arguments.out}")
    print(f"{cached} bytes of K/V and {config.num_hidden_layers * config.index_dim * 2} of index keys per cached token")
    if size > LIMIT_BYTES:
        raise SystemExit(f"{size} bytes are over the limit of {LIMIT_BYTES}")


if __name__ == "__main__":
    main()
