"""convergd against its two peers, n = 10, noise 0.01, one thread each, in one run.

    python peers.py --tables target/bench --convergd target/release/convergd --out peers.json

- *HiGHS* solves the same canonical linear programme by its interior point method, in the form of
  the problem that is the fastest for it on the first table.
- *The published method* learns γ and δ by gradient descent on dense 2^n × 2^n matrices (paper,
  Appendix K and Algorithm 1). The paper states no learning rate, so the settings are those of the
  authors' public code, see `Schedule`. It is written anew here from its description.

Only solving is timed: not reading, not building matrices. What the objectives are compared by is
plain L1, the sum of absolute AND and OR effects, with OR effects of order 1 counted as AND. Seconds
are the median over the tables; convergd solves them in one call, so its seconds are that call's
divided by the tables, and the median over several calls.
"""

from __future__ import annotations

import os

# Before any library starts its threads.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import highspy
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy import sparse
from torch import Tensor

N = 10
NOISE = 0.01
COPIES = 4
"""Of every table in one call of convergd, so that its batches are full."""
TIE_BREAK = 0.01
Vector = NDArray[np.float64]

SUBSETS = np.arange(1 << N)
ORDER = np.array([subset.bit_count() for subset in range(1 << N)])
AND_TERMS = SUBSETS[ORDER > 0]
OR_TERMS = SUBSETS[ORDER > 1]


@dataclass
class Effects:
    """AND and OR effects by bitmask."""

    on_and: Vector
    on_or: Vector

    def plain(self) -> float:
        """The sum of absolute values, without ∅, with single effects put together."""
        merged = np.where(ORDER == 1, self.on_and + self.on_or, self.on_and)
        return float(np.abs(merged[1:]).sum() + np.abs(self.on_or[ORDER > 1]).sum())


@dataclass
class Method:
    """What one method did, by table."""

    name: str
    seconds: list[float] = field(default_factory=list)
    plain: dict[int, float] = field(default_factory=dict)


# The canonical costs, from their definition.


def fraction(k: int) -> float:
    """h(k) of the tie-break."""
    return math.modf(0.6180339887498949 * k)[0]


def canonical_costs() -> Vector:
    """Costs of the AND effects, then of the OR effects."""
    costs = np.ones(len(AND_TERMS) + len(OR_TERMS))
    for position, subset in enumerate(AND_TERMS):
        if ORDER[subset] == 1:
            variable = int(subset).bit_length() - 1
            costs[position] -= TIE_BREAK * (1 + fraction(variable + 1) / 2)
    for position, subset in enumerate(OR_TERMS):
        if ORDER[subset] == 2:
            b = int(subset).bit_length() - 1
            a = (int(subset) ^ 1 << b).bit_length() - 1
            index = 3 + b * (b - 1) // 2 + a
            costs[len(AND_TERMS) + position] += TIE_BREAK * (1 + fraction(index) / 2)
    return costs


COSTS = canonical_costs()


# HiGHS.


@dataclass(frozen=True)
class Form:
    """The linear programme but for the values: effects are differences of nonnegative columns."""

    matrix: sparse.csc_matrix
    free_columns: int
    """Columns at the end that are free and cost nothing."""

    @property
    def equations(self) -> int:
        """Rows at the end that are equal to zero."""
        return self.matrix.shape[0] - len(AND_TERMS)


def definition() -> Form:
    """Row S: the effects that S triggers, within v(S) ± ζ. Most OR effects are in most rows."""
    triggered = np.hstack(
        [AND_TERMS & ~AND_TERMS[:, None] == 0, OR_TERMS & AND_TERMS[:, None] != 0]
    ).astype(float)
    return Form(sparse.csc_matrix(np.hstack([triggered, -triggered])), 0)


def with_total() -> Form:
    """The same with one more variable, the total of the OR effects.

    Row S then holds the total less the few OR effects that S does not trigger.
    """
    on_and = AND_TERMS & ~AND_TERMS[:, None] == 0
    silent = OR_TERMS & AND_TERMS[:, None] == 0
    rows = np.hstack([on_and, -silent.astype(float)])
    sum_of_or = np.concatenate([np.zeros(len(AND_TERMS)), np.ones(len(OR_TERMS))])
    rows = np.vstack([rows, sum_of_or])
    total = np.ones((len(rows), 1))
    total[-1] = -1
    return Form(sparse.csc_matrix(np.hstack([rows, -rows, total])), 1)


FORMS = {"rows as defined": definition, "OR total as a variable": with_total}


@dataclass
class Solved:
    """An answer of HiGHS."""

    seconds: float
    objective: float
    effects: Effects


def highs(form: Form, values: Vector, options: dict[str, str | float]) -> Solved:
    """Solve one table; v(∅) is 0."""
    zeta = NOISE * abs(values[-1])
    zeros = np.zeros(form.equations)
    problem = highspy.HighsLp()
    problem.num_row_, problem.num_col_ = form.matrix.shape
    problem.col_cost_ = np.concatenate([COSTS, COSTS, np.zeros(form.free_columns)])
    lower = np.zeros(problem.num_col_)
    lower[problem.num_col_ - form.free_columns :] = -highspy.kHighsInf
    problem.col_lower_ = lower
    problem.col_upper_ = np.full(problem.num_col_, highspy.kHighsInf)
    problem.row_lower_ = np.concatenate([values[1:] - zeta, zeros])
    problem.row_upper_ = np.concatenate([values[1:] + zeta, zeros])
    problem.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    problem.a_matrix_.start_ = form.matrix.indptr
    problem.a_matrix_.index_ = form.matrix.indices
    problem.a_matrix_.value_ = form.matrix.data
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    for name, value in {"solver": "ipx", "threads": 1, "parallel": "off", **options}.items():
        solver.setOptionValue(name, value)
    solver.passModel(problem)
    start = time.perf_counter()
    solver.run()
    seconds = time.perf_counter() - start
    columns = np.array(solver.getSolution().col_value)
    both = columns[: len(COSTS)] - columns[len(COSTS) : 2 * len(COSTS)]
    effects = Effects(np.zeros(1 << N), np.zeros(1 << N))
    effects.on_and[AND_TERMS] = both[: len(AND_TERMS)]
    effects.on_or[OR_TERMS] = both[len(AND_TERMS) :]
    return Solved(seconds, solver.getObjectiveValue(), effects)


# The published method.


@dataclass(frozen=True)
class Schedule:
    """How γ and δ are learnt: L1 loss, momentum 0.9, float32, a rate that falls tenfold,
    log-spaced, and δ clamped to ±ζ before every step."""

    name: str
    rate: float
    iterations: int


SCHEDULES = (
    # The command that github.com/sjtu-xai-lab/interaction-concept publishes (Li and Zhang, ICML
    # 2023, and arXiv:2304.13312). What is done here is described after its code.
    Schedule("images", 1e-5, 10_000),
    # The command and the defaults of github.com/sjtu-xai-lab/generalizable-interaction (Chen et
    # al., ICLR 2024) for one network.
    Schedule("text", 1e-6, 20_000),
    # The defaults of github.com/sjtu-xai-lab/interaction-sparsity (Ren et al., ICLR 2024). How its
    # rate falls is not published; it is taken to fall as in the other two.
    Schedule("language models", 1e-5, 50_000),
)
MOMENTUM = 0.9


def effect_matrices() -> tuple[Tensor, Tensor]:
    """Dense matrices from the AND and the OR part of v to their effects (paper, Theorem 1)."""
    sign = np.where((ORDER[:, None] - ORDER) % 2 == 0, 1.0, -1.0)
    on_and = np.where(SUBSETS & ~SUBSETS[:, None] == 0, sign, 0.0)
    on_or = -on_and[:, ::-1]
    on_or[0] = on_and[0]
    return torch.tensor(on_and).float(), torch.tensor(on_or.copy()).float()


def published(values: Vector, matrices: tuple[Tensor, Tensor], schedule: Schedule) -> Effects:
    """u_AND = (v + δ)/2 + γ and u_OR = (v + δ)/2 - γ with the least L1 of their effects."""
    table = torch.tensor(values).float()
    bound = NOISE * abs(float(values[-1]))
    gamma, delta = torch.zeros_like(table), torch.zeros_like(table)
    parameters = [gamma.requires_grad_(), delta.requires_grad_()]
    optimizer = torch.optim.SGD(parameters, lr=schedule.rate, momentum=MOMENTUM)
    losses = []
    for rate in np.logspace(0, -1, schedule.iterations) * schedule.rate:
        with torch.no_grad():
            delta.clamp_(-bound, bound)
        half = 0.5 * (table + delta)
        on_and = matrices[0] @ (half + gamma)
        on_or = matrices[1] @ (half - gamma)
        loss = on_and.abs().sum() + on_or.abs().sum()
        losses.append(loss.item())
        if len(losses) < schedule.iterations:
            optimizer.param_groups[0]["lr"] = float(rate)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Effects(on_and.detach().double().numpy(), on_or.detach().double().numpy())


# convergd.


@dataclass
class Sidecar:
    """Runs the binary on `COPIES` of all tables at once and keeps its answers."""

    binary: Path
    directory: Path
    tables: list[Vector]
    seconds: list[float] = field(default_factory=list)
    report: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """One run on one thread."""
        values, answers = self.values(), self.answers()
        save_file({"values": np.tile(np.stack(self.tables), (COPIES, 1))}, values)
        command = [self.binary, "extract", "--values", values, "--out", answers, "--json"]
        command += ["--noise", str(NOISE), "--gap", "1e-3", "--threads", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        self.report = json.loads(done.stdout)
        self.seconds.append(self.report["seconds"])

    def method(self) -> Method:
        """Its seconds a table, the median over the runs, and its answers."""
        answers = load_file(self.answers())
        seconds = statistics.median(self.seconds) / (COPIES * len(self.tables))
        both = zip(answers["and"], answers["or"], strict=True)
        plain = {
            index: Effects(*effects).plain()
            for index, effects in itertools.islice(enumerate(both), len(self.tables))
        }
        return Method("convergd", [seconds] * len(self.tables), plain)

    def encloses(self, optima: list[float]) -> int:
        """How many optima lie between its proven bound and its objective."""
        answers = load_file(self.answers())
        slack = 1e-6 * np.array(optima)
        bound, objective = (answers[name][: len(self.tables)] for name in ("bound", "objective"))
        return int(((bound <= optima + slack) & (optima - slack <= objective)).sum())

    def values(self) -> Path:
        """The file that it reads."""
        return self.directory / "peers_values.safetensors"

    def answers(self) -> Path:
        """The file that it writes."""
        return self.directory / "peers_answers.safetensors"


def read_tables(arguments: argparse.Namespace) -> list[Vector]:
    """Golden and fresh tables, v(∅) subtracted."""
    tables = []
    if arguments.golden and arguments.golden.is_file():
        tables += list(load_file(arguments.golden)[f"values_n{N}"])
    elif arguments.golden:
        print(f"skipped: there are no golden tables at `{arguments.golden}`")
    tables += list(load_file(arguments.tables / f"tables_n{N}.safetensors")["values"])
    return [table - table[0] for table in tables[: arguments.tables_limit]]


def choose_form(values: Vector) -> tuple[str, Form]:
    """Try every form on one table and keep the fastest."""
    tried = {}
    for name, build in FORMS.items():
        form = build()
        tried[name] = (highs(form, values, {"run_crossover": "off"}).seconds, form)
        print(f"HiGHS, first table, {name}: {form.matrix.nnz} nonzeros, {tried[name][0]:.2f} s")
    fastest = min(tried, key=lambda name: tried[name][0])
    return fastest, tried[fastest][1]


def spread(count: int, total: int) -> list[int]:
    """`count` indices, evenly spread."""
    return sorted({index * total // count for index in range(count)})


def solve_all(tables: list[Vector], form: Form) -> tuple[list[Method], list[float]]:
    """HiGHS in three ways on all tables, and the optima."""
    point = Method("HiGHS interior point")
    crossover = Method("HiGHS interior point and crossover")
    loose = Method("HiGHS interior point, stopped at 1e-3")
    ways: list[tuple[Method, dict[str, str | float]]] = [
        (point, {"run_crossover": "off"}),
        (loose, {"run_crossover": "off", "ipm_optimality_tolerance": 1e-3}),
        (crossover, {"run_crossover": "on"}),
    ]
    optima = []
    for index, table in enumerate(tables):
        for method, options in ways:
            solved = highs(form, table, options)
            method.seconds.append(solved.seconds)
            method.plain[index] = solved.effects.plain()
        optima.append(solved.objective)
    return [point, loose, crossover], optima


def learn_all(tables: list[Vector], count: int, sidecar: Sidecar) -> list[Method]:
    """The published method at its full numbers of iterations on `count` of the tables."""
    methods = [
        Method(f"published, {schedule.name}, {schedule.iterations} iterations")
        for schedule in SCHEDULES
    ]
    matrices = effect_matrices()
    for index in spread(min(count, len(tables)), len(tables)):
        for method, schedule in zip(methods, SCHEDULES, strict=True):
            start = time.perf_counter()
            effects = published(tables[index], matrices, schedule)
            method.seconds.append(time.perf_counter() - start)
            method.plain[index] = effects.plain()
        sidecar.run()
    return methods


def main() -> int:
    """Run everything, print the table, write the file."""
    arguments = read_arguments()
    if not arguments.convergd.is_file():
        print(f"`{arguments.convergd}` is missing; `make build` makes it", file=sys.stderr)
        return 69
    torch.set_num_threads(1)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    tables = read_tables(arguments)
    sidecar = Sidecar(arguments.convergd, arguments.out.parent, tables)
    # Its runs are spread over the whole run, so that they see the same load as the peers.
    sidecar.run()
    form_name, form = choose_form(tables[0])
    sidecar.run()
    peers, optima = solve_all(tables, form)
    exact = peers[-1].plain
    sidecar.run()
    peers += learn_all(tables, arguments.reference_tables, sidecar)
    methods = [sidecar.method(), *peers]
    lines = [summary(method, methods[0].seconds[0], exact) for method in methods]
    certified, inside = sidecar.report["certified"], sidecar.encloses(optima)
    show(lines)
    print(
        f"\nconvergd certified {certified} of {COPIES * len(tables)} tables, largest gap "
        f"{sidecar.report['gap_max']:.2e}; its {len(sidecar.seconds)} runs took "
        f"{', '.join(f'{seconds:.3f}' for seconds in sidecar.seconds)} s;\n"
        f"the optimum of HiGHS lies within its [bound, objective] on {inside} of {len(tables)}"
    )
    facts = {
        "n": N,
        "noise": NOISE,
        "tables": len(tables),
        "form": form_name,
        "runs": sidecar.seconds,
        "certified": certified,
        "optimum_between": inside,
        "methods": lines,
    }
    arguments.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return 0


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, required=True, help="directory of make_tables.py")
    parser.add_argument("--golden", type=Path, help="file of tables with known optima")
    parser.add_argument("--convergd", type=Path, required=True, help="the release binary")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--tables-limit", type=int, help="use no more tables than these")
    parser.add_argument(
        "--reference-tables", type=int, default=6, help="tables of the published method"
    )
    return parser.parse_args()


def summary(method: Method, own: float, optima: dict[int, float]) -> dict[str, str | float]:
    """One line of the table; `own` is convergd's seconds a table."""
    seconds = statistics.median(method.seconds)
    above = [plain / optima[index] - 1 for index, plain in method.plain.items()]
    return {
        "method": method.name,
        "tables": len(method.seconds),
        "seconds": seconds,
        "ratio": seconds / own,
        "above_mean": statistics.mean(above),
        "above_most": max(above),
    }


def show(lines: list[dict[str, str | float]]) -> None:
    """Print the table."""
    print(f"\nPeers: n = {N}, noise {NOISE}, one thread each\n")
    print(
        f"{'method':<44}{'tables':>7}{'s/table':>11}{'to convergd':>13}"
        f"{'above optimum: mean':>22}{'most':>11}"
    )
    for line in lines:
        print(
            f"{line['method']:<44}{line['tables']:>7}{line['seconds']:>11.4f}"
            f"{line['ratio']:>11.0f} ×{line['above_mean']:>22.2e}{line['above_most']:>11.2e}"
        )


if __name__ == "__main__":
    sys.exit(main())
