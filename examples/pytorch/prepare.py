"""Write what the sidecar needs before the run: the network's code and the probe set.

python prepare.py --out run
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import digits
from convergd import export_program, make_probe


def main() -> None:
    """Write `program.ts` and `probe.safetensors`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory to write to")
    parser.add_argument("--samples", type=int, default=digits.PROBE_SAMPLES, help="probe samples")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    probe = digits.load(arguments.samples).probe
    program = export_program(
        digits.Net(), probe.inputs[:4], split=digits.SPLIT, path=arguments.out / "program.ts"
    )
    print(f"wrote {program}, split at `{digits.SPLIT}`")
    path = make_probe(arguments.out / "probe.safetensors", probe.inputs, probe.labels)
    print(f"wrote {path}, {len(probe.labels)} samples")


if __name__ == "__main__":
    main()
