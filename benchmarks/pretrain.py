"""Train the model that `convcast demo --pretrained` samples from, and put it into the package.

    python benchmarks/pretrain.py --minutes 2.5

It trains on the days of the demo's simulated world that the demo does not forecast. The weights, their description, the
model card and the log, from which the training curve is drawn, replace those in convcast/pretrained/. Make them again
when the format of models changes: `convcast demo --pretrained` refuses models of another format.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from convcast.cli.common.curve import read_log
from convcast.cli.demo import CURVE, DAYS, HALVED, PRETRAINED
from convcast.files import read_json, write_bytes
from convcast.model.checkpoint import CARD, DESCRIPTION, LOG, WEIGHTS
from convcast.model.half_precision import halve
from convcast.pictures.training_curve import draw_training_curve

LARGEST = 4_000_000
"""Maximum size of the weights, bytes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.5, help="training time")
    parser.add_argument("--workspace", type=Path, help="keep the workspace here, and continue in it")
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        workspace = options.workspace or Path(scratch)
        for words in (
            ["fetch", "--source", "simulated", "--days", str(DAYS), "--preset", "demo"],
            ["preprocess"],
            ["train", "--model", PRETRAINED.name, "--max-minutes", str(options.minutes)],
        ):
            subprocess.run([sys.executable, "-m", "convcast", *words, "-w", str(workspace)], check=True)
        model = workspace / "models" / PRETRAINED.name
        halve(model / WEIGHTS, PRETRAINED / HALVED)
        size = (PRETRAINED / HALVED).stat().st_size
        if size > LARGEST:
            sys.exit(f"the weights have {size} bytes, more than {LARGEST}")
        for name in (CARD, LOG):
            write_bytes(PRETRAINED / name, (model / name).read_bytes())
        write_bytes(PRETRAINED / DESCRIPTION, json.dumps(read_json(model / DESCRIPTION)).encode())
    reports = read_log(PRETRAINED / LOG)
    losses = [(report["step"], report["loss"]) for report in reports]
    checked = [(report["step"], report["validation"]["loss"]) for report in reports if report["validation"]]
    curve = draw_training_curve(losses, checked, name=PRETRAINED.name, simulated=True)
    write_bytes(PRETRAINED / CURVE, curve)
    print(f"{PRETRAINED}: weights of {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
