# SPDX-License-Identifier: Apache-2.0
"""Train the demonstration lung model again: phantoms made by code in, ``model.onnx`` and its digest out.

Needs the group `train` (``uv sync --group train``); a few minutes on two CPU cores. Seeds are fixed and
training runs on the CPU, so the same versions on the same machine give the same weights. The model is a
demonstration, not for clinical use: it has seen no patient.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy import ndimage
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ai_apps.imaging.resample import Grid, interpolated  # noqa: E402
from ai_apps.manifest import NetworkModel, read_manifest  # noqa: E402
from conformance.phantoms.chest import ChestPhantom, Plane, make_ct_chest  # noqa: E402

APP = ROOT / "ai_apps" / "apps" / "lung_ct"
TRAINING_SEEDS = range(10_000, 10_056)
VALIDATION_SEEDS = range(20_000, 20_004)
WIDTHS = (8, 16, 24, 32)


def working_volume(seed: int, model: NetworkModel) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A phantom scanned in a random manner and brought to the working grid, and where its lungs are there."""
    rng = np.random.default_rng((seed, 7))
    spacing = model.spacing_mm or 3.0
    size = 134
    # The truth is sampled on the working grid itself; the images come from a scan of their own.
    shape = (100, size, size)
    truth = make_ct_chest(ChestPhantom(seed=seed, shape=shape, spacing_mm=(spacing,) * 3))
    plane = list(Plane)[int(rng.choice(4, p=[0.55, 0.15, 0.15, 0.15]))]
    scan = make_ct_chest(
        ChestPhantom(
            seed=seed,
            shape=(int(rng.integers(32, 110)), int(rng.integers(110, 220)), int(rng.integers(110, 220))),
            plane=plane,
            emphysema_percent=float(rng.uniform(0, 18)),
            noise_hu=float(rng.uniform(4, 30)),
        )
    )
    lungs = scan.left | scan.right
    hu = scan.hu.astype(np.float32)
    # Real lungs are denser and crossed by vessels; density also rises towards the back.
    lift = rng.uniform(-20, 150) + rng.uniform(0, 60) * np.linspace(-1, 1, hu.shape[1])[None, :, None]
    hu = np.where(lungs & (hu < -500), hu + lift.astype(np.float32), hu)
    vessels = ndimage.gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), 1.2)
    cut = np.quantile(vessels, 1 - rng.uniform(0, 0.08))
    hu = np.where(lungs & (vessels > cut), np.float32(rng.uniform(-300, 60)), hu)
    grid = Grid(affine=truth.affine, shape=shape)
    image = interpolated(hu, scan.affine, grid, outside=model.outside_hu)
    return image, truth.left | truth.right


def sections(model: NetworkModel) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Inputs [n, channels, rows, columns] and targets of all training phantoms."""
    inputs, targets = [], []
    for seed in TRAINING_SEEDS:
        image, lungs = working_volume(seed, model)
        scaled = model.scale.apply(image)
        n = model.neighbours
        padded = np.pad(scaled, ((n, n), (0, 0), (0, 0)), mode="edge")
        stack = np.stack([padded[c : c + len(scaled)] for c in range(2 * n + 1)], axis=1)
        chosen = np.random.default_rng(seed).permutation(len(scaled))[:50]
        inputs.append(stack[chosen].astype(np.float16))
        targets.append(lungs[chosen])
    return np.concatenate(inputs), np.concatenate(targets)


def _step(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
        nn.Conv2d(outside, outside, 3, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )


class Network(nn.Module):
    """A U-Net of four levels with one output channel of logits."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        before = (channels, *WIDTHS[:-1])
        self.down = nn.ModuleList([_step(a, b) for a, b in zip(before, WIDTHS, strict=True)])
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(WIDTHS[i + 1], WIDTHS[i], 2, stride=2) for i in range(len(WIDTHS) - 1)]
        )
        self.merge = nn.ModuleList([_step(2 * w, w) for w in WIDTHS[:-1]])
        self.head = nn.Conv2d(WIDTHS[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
            kept.append(x)
        for level in reversed(range(len(self.up))):
            x = self.merge[level](torch.cat([kept[level], self.up[level](x)], dim=1))
        logits: Tensor = self.head(x)
        return logits


def augmented(x: Tensor, y: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mirrored, shifted, brightened and noisier sections; now and then a circular field of view."""
    if rng.random() < 0.5:
        x, y = x.flip(-1), y.flip(-1)
    if rng.random() < 0.2:
        x, y = x.flip(-2), y.flip(-2)
    if rng.random() < 0.5:
        x = x.flip(1)
    shift = tuple(int(v) for v in rng.integers(-12, 13, 2))
    x, y = x.roll(shift, (-2, -1)), y.roll(shift, (-2, -1))
    if rng.random() < 0.3:
        rows = torch.arange(x.shape[-2])[:, None] - x.shape[-2] / 2
        columns = torch.arange(x.shape[-1])[None, :] - x.shape[-1] / 2
        outside = rows**2 + columns**2 > float(rng.uniform(52, 70)) ** 2
        x, y = x.masked_fill(outside, 0.0), y.masked_fill(outside, 0.0)
    gain = 1 + float(rng.uniform(-0.05, 0.05))
    noise = torch.from_numpy(rng.standard_normal(tuple(x.shape), dtype=np.float32))
    return (x * gain + noise * float(rng.uniform(0, 0.02))).clamp(0, 1), y


def trained(inputs: NDArray[np.float16], targets: NDArray[np.bool_], *, steps: int, seed: int) -> Network:
    """The network after `steps` batches."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    rng = np.random.default_rng(seed)
    network = Network(inputs.shape[1]).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps)
    started = time.monotonic()
    for step in range(steps):
        chosen = np.sort(rng.choice(len(inputs), 12, replace=False))
        x = torch.from_numpy(inputs[chosen].astype(np.float32))[..., :128, :128]
        y = torch.from_numpy(targets[chosen].astype(np.float32))[:, None, :128, :128]
        x, y = augmented(x, y, rng)
        logits = network(x.contiguous(memory_format=torch.channels_last))
        probability = logits.sigmoid()
        overlap = (2 * (probability * y).sum() + 1) / (probability.sum() + y.sum() + 1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, y) + 1 - overlap
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {loss.item():.4f}  {time.monotonic() - started:.0f} s", flush=True)
    return network.eval()


def graph(network: Network, model: NetworkModel) -> onnx.ModelProto:
    """The network as ONNX with the batch normalisation folded into the convolutions."""
    nodes, weights = [], []

    def constant(name: str, values: Tensor) -> str:
        weights.append(numpy_helper.from_array(values.detach().numpy().astype(np.float32), name))
        return name

    def convolution(x: str, name: str, weight: Tensor, bias: Tensor, pad: int) -> str:
        inputs = [x, constant(f"{name}.weight", weight), constant(f"{name}.bias", bias)]
        nodes.append(helper.make_node("Conv", inputs, [name], name=name, pads=[pad] * 4))
        return name

    def block(x: str, name: str, layers: nn.Sequential) -> str:
        for number, at in enumerate((0, 3)):
            convolved, normed = layers[at], layers[at + 1]
            gain = normed.weight / torch.sqrt(normed.running_var + normed.eps)
            x = convolution(
                x,
                f"{name}.{number}",
                convolved.weight * gain[:, None, None, None],
                normed.bias - normed.running_mean * gain,
                1,
            )
            nodes.append(helper.make_node("Relu", [x], [f"{x}.relu"], name=f"{x}.relu"))
            x = f"{x}.relu"
        return x

    x, kept = model.input_name, []
    for level, layers in enumerate(network.down):
        if level:
            nodes.append(
                helper.make_node(
                    "MaxPool", [x], [f"pool{level}"], name=f"pool{level}", kernel_shape=[2, 2], strides=[2, 2]
                )
            )
            x = f"pool{level}"
        x = block(x, f"down{level}", layers)
        kept.append(x)
    for level in reversed(range(len(network.up))):
        layer = network.up[level]
        inputs = [x, constant(f"up{level}.weight", layer.weight), constant(f"up{level}.bias", layer.bias)]
        nodes.append(
            helper.make_node("ConvTranspose", inputs, [f"up{level}"], name=f"up{level}", strides=[2, 2])
        )
        nodes.append(
            helper.make_node(
                "Concat", [kept[level], f"up{level}"], [f"join{level}"], name=f"join{level}", axis=1
            )
        )
        x = block(f"join{level}", f"merge{level}", network.merge[level])
    x = convolution(x, "head", network.head.weight, network.head.bias, 0)
    nodes.append(helper.make_node("Sigmoid", [x], [model.output_name], name="probability"))
    channels = 2 * model.neighbours + 1
    whole = helper.make_model(
        helper.make_graph(
            nodes,
            "lung",
            [helper.make_tensor_value_info(model.input_name, TensorProto.FLOAT, ["n", channels, "h", "w"])],
            [helper.make_tensor_value_info(model.output_name, TensorProto.FLOAT, ["n", 1, "h", "w"])],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
        producer_name="airway train_lung_model",
    )
    helper.set_model_props(whole, {"label": "demonstration, not for clinical use", "licence": "Apache-2.0"})
    onnx.checker.check_model(whole)
    return whole


def validated(network: Network, model: NetworkModel) -> None:
    """Print overlap and volume error, of the bare network, on phantoms it has not seen."""
    for seed in VALIDATION_SEEDS:
        image, lungs = working_volume(seed, model)
        scaled = model.scale.apply(image)
        n = model.neighbours
        padded = np.pad(scaled, ((n, n), (0, 0), (0, 0)), mode="edge")
        stack = np.stack([padded[c : c + len(scaled)] for c in range(2 * n + 1)], axis=1)[..., :128, :128]
        with torch.no_grad():
            found = network(torch.from_numpy(stack)).sigmoid().numpy()[:, 0] > 0.5
        truth = lungs[..., :128, :128]
        overlap = 2 * (found & truth).sum() / (found.sum() + truth.sum())
        error = found.sum() / truth.sum() - 1
        print(f"phantom {seed}: Dice {overlap:.4f}, volume {error:+.2%}", flush=True)


def main() -> None:
    """Train, export, and enter the digest into the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    manifest = read_manifest(APP / "app.yaml")
    assert manifest.model is not None
    started = time.monotonic()
    inputs, targets = sections(manifest.model)
    print(f"{len(inputs)} sections of {len(TRAINING_SEEDS)} phantoms in {time.monotonic() - started:.0f} s")
    network = trained(inputs, targets, steps=given.steps, seed=given.seed)
    validated(network, manifest.model)
    content = graph(network, manifest.model).SerializeToString(deterministic=True)
    manifest.model.path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    path = APP / "app.yaml"
    line = re.compile(r'(?m)^(  sha256: )"[0-9a-f]{64}"$')
    path.write_text(line.sub(rf'\g<1>"{digest}"', path.read_text()))
    print(f"{manifest.model.path.name}: {len(content)} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
