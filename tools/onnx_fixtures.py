"""Make the small ONNX graphs that the tests of ONNX pruning read: seeded random weights, from torch's exporter and from optimum's.

The torch graphs need this project's own environment:
    python tools/onnx_fixtures.py torch
Those of optimum need one of their own, because optimum-onnx holds transformers below version 4.58:
    python3 -m venv /tmp/optvenv
    /tmp/optvenv/bin/pip install torch==2.13.0 optimum-onnx==0.1.0 transformers==4.57.6 onnx onnxruntime
    /tmp/optvenv/bin/python tools/onnx_fixtures.py optimum
No two dimensions of a graph are equal where a mix-up should be noticed: 5 heads of width 8, 72 MLP units, 17 tokens, 7 classes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

GRAPHS = Path(__file__).resolve().parents[1] / "tests" / "export" / "onnx_pruning" / "graphs"
HIDDEN, HEADS, MLP, IMAGE, PATCH, CLASSES = 40, 5, 72, 24, 6, 7


def parser() -> argparse.ArgumentParser:
    line = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    line.add_argument("source", choices=("torch", "optimum"), help="whose exporter")
    line.add_argument("--out", type=Path, default=GRAPHS, help="folder to write to; default: %(default)s")
    return line


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and statistic drawn: exporters store equal tensors, such as biases of zeros, only once."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=generator)
                positive = name.endswith("running_var") or "norm" in name and name.endswith("weight")
                tensor.copy_(0.5 + drawn.abs() if positive else drawn * max(tensor[0].numel(), 1) ** -0.5)
    return model.eval()


def vit() -> nn.Module:
    """A classifier of transformers with all its parts."""
    from transformers import ViTConfig, ViTForImageClassification

    return randomised(
        ViTForImageClassification(
            ViTConfig(
                hidden_size=HIDDEN,
                num_hidden_layers=2,
                num_attention_heads=HEADS,
                intermediate_size=MLP,
                image_size=IMAGE,
                patch_size=PATCH,
                num_labels=CLASSES,
            )
        )
    )


class Logits(nn.Module):
    """The classifier as a function of pixels."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.m = model

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.m(pixel_values=pixels).logits
        return logits


class Joint(nn.Module):
    """One block whose queries, keys and values come from one layer, as timm writes it, with a gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, HIDDEN, PATCH, PATCH)
        self.norm1, self.norm2 = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.qkv, self.out = nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.gated, self.down = nn.Linear(HIDDEN, 2 * MLP), nn.Linear(MLP, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * (c // HEADS) ** -0.5).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(b, n, c))
        gate, up = self.gated(self.norm2(x)).chunk(2, -1)
        x = x + self.down(nn.functional.silu(gate) * up)
        return self.head(x.mean(1))


class Cnn(nn.Module):
    """A residual sum, a concatenation, a depthwise and a grouped convolution, a gate by channel, two halves, flattened at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm0 = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.wide, self.norm1 = nn.Conv2d(16, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.back, self.norm2 = nn.Conv2d(24, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.dense = nn.Conv2d(16, 12, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(28)  # after the concatenation, so that no exporter can fold it into a convolution
        self.depthwise, self.point = nn.Conv2d(28, 28, 3, padding=1, groups=28), nn.Conv2d(28, 20, 1)
        self.squeeze, self.excite = nn.Conv2d(20, 9, 1), nn.Conv2d(9, 20, 1)
        self.grouped, self.halves = nn.Conv2d(20, 30, 3, 2, 1, groups=5), nn.Conv2d(30, 22, 1)
        self.hidden, self.head = nn.Linear(11 * 9, 18), nn.Linear(18, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = torch.relu(self.norm0(self.stem(pixels)))
        x = torch.relu(x + self.norm2(self.back(torch.relu(self.norm1(self.wide(x))))))
        x = torch.relu(self.norm3(torch.cat([x, torch.relu(self.dense(x))], 1)))
        x = nn.functional.max_pool2d(self.point(torch.relu(self.depthwise(x))), 2)
        x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        one, other = self.halves(torch.relu(self.grouped(x))).chunk(2, 1)
        return self.head(torch.relu(self.hidden((one * torch.tanh(other)).flatten(1))))


def stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without what the exporter notes on every node: where in which file it came from."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    return model


def from_torch(out: Path) -> None:
    pixels = torch.randn(2, 3, IMAGE, IMAGE)
    one = pixels[:1]
    batch = ({0: torch.export.Dim("batch")},)
    for name, module, given, opset, dynamic in (
        ("vit20", Logits(vit()), one, 20, None),
        ("vit23", Logits(vit()), one, 23, None),
        ("vit_batch", Logits(vit()), pixels, 20, batch),
        ("joint", randomised(Joint()), pixels, 18, batch),
        ("cnn", randomised(Cnn()), one, 20, None),
    ):
        made = torch.onnx.export(
            module.eval(),
            (given,),
            dynamo=True,
            opset_version=opset,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_shapes=dynamic,
            verbose=False,
        )
        onnx.save(stripped(made.model_proto), out / f"{name}.onnx")


def from_optimum(out: Path) -> None:
    from optimum.exporters.onnx import main_export

    with tempfile.TemporaryDirectory() as folder:
        vit().save_pretrained(folder)
        for name, static in (("optimum_static", True), ("optimum_dynamic", False)):
            main_export(
                folder,
                output=f"{folder}/{name}",
                task="image-classification",
                no_dynamic_axes=static,
                do_validation=False,
            )
            onnx.save(stripped(onnx.load(f"{folder}/{name}/model.onnx")), out / f"{name}.onnx")


if __name__ == "__main__":
    asked = parser().parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    (from_torch if asked.source == "torch" else from_optimum)(asked.out)
