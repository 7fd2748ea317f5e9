"""Small trainings with the frameworks; run as a program it is one process of a training.

    python callback_training.py FRAMEWORK '{"directory": …, …}'

The JSON holds the arguments of the framework's function here. `report-NETWORK-RANK.json` in the
directory says what came of it.
"""

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from convergd.torch import InteractionPenalty

STEPS_OF_AN_EPOCH, BATCH = 4, 8
MAX_STEPS = 12


class Net(nn.Module):
    """Images [B, 1, 4, 4] to logits [B, 3], with buffers and a feature map to be masked."""

    def __init__(self):
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.high = nn.Linear(64, 3)

    def head(self, hidden):
        return self.high(hidden.flatten(1))

    def forward(self, images):
        return self.head(self.low(images))


class Images(Dataset):
    """The same ones in every process."""

    def __init__(self, count=STEPS_OF_AN_EPOCH * BATCH):
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randn(count, 1, 4, 4, generator=generator)
        self.labels = self.images.flatten(1)[:, :3].argmax(1)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"images": self.images[index], "labels": self.labels[index]}


class Model(nn.Module):
    """What the frameworks train: it notes λ of each evaluation."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = Net()
        self.penalty = InteractionPenalty(variables=4, grid=2, module=self.net, seed=seed)
        self.lambdas = []
        self.before = lambda: None

    def forward(self, images, labels):
        self.before()
        result = self.penalty(self.net.low, self.net.head, images, labels)
        self.lambdas.append(result.lambda_)
        return result.loss, result.logits


def decide(directory, **decision):
    """Replace the control file as the sidecar does."""
    record = {"schema": 1, "generation": 1, "action": "continue", "phase": "plain", "lambda": 0.0,
              "ramp": 0, "at_step": 0, "best": None, "reason": "it has peaked"}  # fmt: skip
    directory.mkdir(exist_ok=True)
    new = directory / "control.json.new"
    new.write_text(json.dumps(record | decision))
    os.replace(new, directory / "control.json")


class Sidecar:
    """Decides while given steps are under way, from the first evaluation of the loss on."""

    def __init__(self, directory, decisions, evaluations, first, pause):
        self.directory, self.decisions = directory, decisions
        self.evaluations, self.first, self.pause = evaluations, first, pause
        self.seen = 0

    def __call__(self):
        step = self.first + self.seen // self.evaluations + 1
        if self.seen % self.evaluations == 0 and step in self.decisions:
            decide(self.directory, **self.decisions[step])
        self.seen += 1
        time.sleep(self.pause)


@dataclass
class Outcome:
    """What a training came to."""

    callback: object
    model: Model
    step: int
    logged: list = field(default_factory=list)

    def report(self):
        return {
            "step": self.step,
            "stopped_step": self.callback.stopped_step,
            "lambdas": self.model.lambdas,
            "weights": float(self.model.net.high.weight.detach().double().sum()),
        }


def train_lightning(
    directory, *, decisions=(), steps=MAX_STEPS, accumulate=1, seed=0, loss="model.penalty",
    first=0, resume=None, save=None, pause=0.0, control="control", devices=1, **arguments,
):  # fmt: skip
    """One training by Lightning, with checkpoints of its own where `save` says how often."""
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers.logger import Logger

    from convergd.lightning import ConvergenceStopping

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Model(seed)

        def training_step(self, batch, _):
            return self.model(**batch)[0]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)

    class Noted(Logger):
        def __init__(self):
            super().__init__()
            self.metrics = []

        name, version = "noted", 0

        def log_metrics(self, metrics, step=None):
            self.metrics.append(metrics | {"step": step})

        def log_hyperparams(self, *_, **__):
            pass

    settings = {key: arguments.pop(key) for key in list(arguments) if key in TRAINER_SETTINGS}
    arguments.setdefault("submodule", "model.net")
    arguments.setdefault("checkpoints", directory / "target")
    callback = ConvergenceStopping(directory / control, loss=loss, **arguments)
    module, logger = Module(), Noted()
    module.model.before = Sidecar(directory / control, dict(decisions), accumulate, first, pause)
    own = []
    if save:
        own = [ModelCheckpoint(directory / "own", "{step}", every_n_train_steps=save,
                               save_top_k=-1)]  # fmt: skip
    strategy = {"strategy": "ddp", "devices": devices} if devices > 1 else {"devices": 1}
    trainer = pl.Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", callbacks=[callback, *own],
        logger=logger, log_every_n_steps=1, accumulate_grad_batches=accumulate,
        enable_checkpointing=bool(own), enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=directory, **strategy, **settings,
    )  # fmt: skip
    loader = DataLoader(Images(STEPS_OF_AN_EPOCH * BATCH * accumulate * devices), batch_size=BATCH)
    trainer.fit(module, loader, ckpt_path=resume)
    return Outcome(callback, module.model, trainer.global_step, logger.metrics)


TRAINER_SETTINGS = ("min_steps", "fast_dev_run")


def train_transformers(
    directory, *, decisions=(), steps=MAX_STEPS, accumulate=1, seed=0, loss="penalty",
    first=0, resume=None, save=None, pause=0.0, control="control", more=(), **arguments,
):  # fmt: skip
    """One training by the Trainer, with checkpoints of its own where `save` says how often."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from convergd.transformers import ConvergenceCallback

    class Noted(TrainerCallback):
        def __init__(self):
            self.metrics = []

        def on_log(self, args, state, control, logs, **_):
            self.metrics.append(logs | {"step": state.global_step})

    settings = {key: arguments.pop(key) for key in list(arguments) if key in TRAINING_ARGUMENTS}
    arguments.setdefault("submodule", "net")
    arguments.setdefault("checkpoints", directory / "target")
    callback, noted = ConvergenceCallback(directory / control, loss=loss, **arguments), Noted()
    model = Model(seed)
    model.before = Sidecar(directory / control, dict(decisions), accumulate, first, pause)
    saving = {"save_strategy": "steps", "save_steps": save} if save else {"save_strategy": "no"}
    training = TrainingArguments(
        output_dir=directory / "own", max_steps=steps, per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=accumulate, learning_rate=0.01, use_cpu=True, seed=seed,
        report_to="none", disable_tqdm=True, logging_strategy="steps", logging_steps=1,
        remove_unused_columns=False, **saving | settings,
    )  # fmt: skip
    data = Images(STEPS_OF_AN_EPOCH * BATCH * accumulate * training.world_size)
    trainer = Trainer(model, training, train_dataset=data, eval_dataset=data,
                      callbacks=[callback, noted, *more])  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return Outcome(callback, model, trainer.state.global_step, noted.metrics)


TRAINING_ARGUMENTS = (
    "eval_strategy", "greater_is_better", "load_best_model_at_end", "metric_for_best_model",
    "restore_callback_states_from_checkpoint", "save_strategy",
)  # fmt: skip

FRAMEWORKS = {"lightning": train_lightning, "transformers": train_transformers}


def main(framework, arguments):
    torch.set_num_threads(1)
    arguments["directory"] = Path(arguments["directory"])
    rank = os.environ.get("LOCAL_RANK", "0")
    if arguments.pop("control_of_each_rank", False):
        arguments["control"] = f"control-{rank}"
    decisions = {int(step): one for step, one in arguments.pop("decisions", {}).items()}
    # Only the first rank has a sidecar.
    outcome = FRAMEWORKS[framework](decisions=decisions if rank == "0" else {}, **arguments)
    name = f"report-{arguments.get('network', 'target')}-{rank}.json"
    (arguments["directory"] / name).write_text(json.dumps(outcome.report()))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
