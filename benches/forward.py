"""Forward throughput of convergd and of PyTorch on the same programs, in turn.

    python benches/forward.py --networks DIRECTORY --bench BINARY [--rounds 3] [--batch 256]
        [--device cpu]

For each network the Rust bench (`evaluate`, and the bare loop over `head`) and, in this process,
the same loop in PyTorch take turns: over the program as TorchScript and over the eager model, on
ready-made batches, one thread. Printed are medians of rows a second and of the ratio of `evaluate`
to each.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from make_networks import make_model
from safetensors.torch import load_file
from torch import Tensor


def loops(
    name: str, directory: Path, batch: int, device: str
) -> tuple[int, dict[str, Callable[[], None]]]:
    """Rows, and the loops over all of them."""
    program = torch.jit.load(directory / name / "program.ts", map_location=device).eval()
    model = make_model(name).to(device)
    probe = load_file(directory / name / "probe.safetensors", device=device)
    inputs, mask = probe["inputs"], probe.get("attention_mask")
    rows = len(inputs) << int(probe["variables"].max()) + 1
    batches = []
    for start in range(0, rows, batch):
        size = min(batch, rows - start)
        index = start // batch % len(inputs)
        further = [] if mask is None else [mask[index : index + 1].repeat(size, 1)]
        hidden = program.features(inputs[index : index + 1], *(f[:1] for f in further))
        batches.append((hidden.repeat(size, *[1] * (hidden.dim() - 1)), further))

    def eager(hidden: Tensor, *further: Tensor) -> Tensor:
        if name in ("digits", "resnet"):
            return model.high(hidden)
        if name == "bert":
            return model(inputs_embeds=hidden, attention_mask=further[0]).logits
        kept = {"logits_to_keep": 1, "use_cache": False}
        return model(inputs_embeds=hidden, attention_mask=further[0], **kept).logits

    def over(head: Callable[..., Tensor]) -> Callable[[], None]:
        def loop() -> None:
            for hidden, further in batches:
                head(hidden, *further)

        return loop

    return rows, {"jit": over(program.head), "eager": over(eager)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", type=Path, required=True)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    names = sorted(path.name for path in options.networks.iterdir())
    titles = ("network", "evaluate", "bare", "jit", "eager", "/bare", "/jit", "/eager")
    print(("{:<10}" + "{:>10}" * 7).format(*titles), "(rows a second, and evaluate as a share)")
    for name in names:
        with torch.inference_mode():
            rows, own = loops(name, options.networks, options.batch, options.device)
            for loop in own.values():
                loop()
                loop()
            rounds = [measure(name, rows, own, options) for _ in range(options.rounds)]
        speeds = [median(each[at] for each in rounds) for at in range(4)]
        shares = [median(each[0] / each[at] for each in rounds) for at in (2, 3)]
        shares.insert(0, median(each[4] for each in rounds))
        print(f"{name:<10}" + "".join(f"{s:>10.0f}" for s in speeds), end="")
        print("".join(f"{s:>10.3f}" for s in shares), flush=True)


def measure(
    name: str, rows: int, own: dict[str, Callable[[], None]], options: argparse.Namespace
) -> list[float]:
    """Rows a second of evaluate, bare, jit and eager, and evaluate / bare, once around."""
    command = [options.bench, "--networks", options.networks, "--only", name]
    command += ["--batch", str(options.batch), "--rounds", "5", "--device", options.device]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    evaluate, bare, ratio = (float(word) for word in printed.splitlines()[1].split()[3:])
    speeds = []
    for loop in own.values():
        started = time.perf_counter()
        loop()
        if options.device != "cpu":
            torch.cuda.synchronize()
        speeds.append(rows / (time.perf_counter() - started))
    return [evaluate, bare, *speeds, ratio]


if __name__ == "__main__":
    main()
