"""Writes the Grafana dashboard `convergd.json` beside this file.

    python make_dashboard.py [FILE]

The dashboard asks for a Prometheus data source and for the run to look at. `ROWS` are its panels.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Panel = dict[str, Any]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
ON = 'job="convergd", instance=~"$instance"'
MONITOR = f'{ON}, monitor="$monitor"'
WIDTH = 24


def query(expression: str, legend: str, **more: object) -> dict[str, Any]:
    """One query of a panel."""
    return {"datasource": SOURCE, "expr": expression, "legendFormat": legend, **more}


def override(name: str, **properties: object) -> dict[str, Any]:
    """What is drawn differently for the series of a legend."""
    listed = [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": listed}


def panel(
    kind: str,
    title: str,
    about: str,
    queries: list[dict[str, Any]],
    *,
    width: int = 8,
    unit: str = "none",
    overrides: list[dict[str, Any]] | None = None,
    custom: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    **defaults: object,
) -> Panel:
    """A panel without its place."""
    for name, asked in zip("ABCDEFGH", queries, strict=False):
        asked["refId"] = name
    fields = {"unit": unit, "custom": custom or {}, **defaults}
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "targets": queries,
        "fieldConfig": {"defaults": fields, "overrides": overrides or []},
        "options": options or {},
        "width": width,
    }


def graph(title: str, about: str, queries: list[dict[str, Any]], **more: Any) -> Panel:  # noqa: ANN401
    """Lines over time."""
    return panel("timeseries", title, about, queries, **more)


def number(
    title: str,
    about: str,
    expression: str,
    legend: str = "",
    **more: Any,  # noqa: ANN401
) -> Panel:
    """One number, the last one."""
    asked = [query(expression, legend, instant=True)]
    return panel("stat", title, about, asked, width=3, **more)


def steps(*colours: tuple[float | None, str]) -> dict[str, Any]:
    """Colours from values on."""
    return {"mode": "absolute", "steps": [{"value": v, "color": c} for v, c in colours]}


def mapped(**words: tuple[str, str]) -> list[dict[str, Any]]:
    """Words and colours for values."""
    options = {
        value.strip("_"): {"text": text, "color": colour} for value, (text, colour) in words.items()
    }
    return [{"type": "value", "options": options}]


def quantile(share: float, name: str, by: str, window: str) -> str:
    """A quantile of a histogram of seconds."""
    seconds = f"increase(convergd_{name}_seconds_bucket{{{ON}}}[{window}])"
    return f"histogram_quantile({share}, sum by ({by}) ({seconds}))"


def strengths(network: str) -> Panel:
    """Strength by order of a network, both signs, all against convergent."""
    queries = []
    for sign, minus in (("positive", ""), ("negative", "-")):
        for kind in ("all", "convergent"):
            labels = f'{ON}, network="{network}", kind="{kind}", sign="{sign}"'
            expression = f"{minus}sum by (order) (convergd_strength{{{labels}}})"
            queries.append(query(expression, f"{{{{order}}}} {kind} {sign}"))
    return graph(
        f"Strength by order, {network}",
        "Mean strength of salient interactions; above zero the positive ones, below the negative.",
        queries,
        width=12,
        custom={"lineWidth": 1, "fillOpacity": 5},
    )


STAGES = (
    f"sum by (stage) (rate(convergd_stage_duration_seconds_{{}}{{{{{ON}}}}}[$__rate_interval]))"
)
BEHIND = (
    f"abs(convergd_monitor_best{{{MONITOR}}} - convergd_monitor_value{{{MONITOR}}}) / sqrt("
    f"convergd_monitor_best_stderr{{{MONITOR}}} ^ 2 + convergd_monitor_stderr{{{MONITOR}}} ^ 2)"
)
HIDDEN = {"legend": False, "tooltip": True, "viz": False}
SCORE = graph(
    "$monitor, its error and its best",
    "Every pair with one standard error on both sides, and the best value that the rules know: "
    "none before the warm-up.",
    [
        query(
            f"convergd_monitor_value{{{MONITOR}}} - convergd_monitor_stderr{{{MONITOR}}}", "lower"
        ),
        query(
            f"convergd_monitor_value{{{MONITOR}}} + convergd_monitor_stderr{{{MONITOR}}}", "upper"
        ),
        query(f"convergd_monitor_value{{{MONITOR}}}", "value"),
        query(f"convergd_monitor_best{{{MONITOR}}}", "best"),
    ],
    width=16,
    overrides=[
        override("lower", custom__lineWidth=0, custom__hideFrom=HIDDEN | {"legend": True}),
        override("upper", custom__lineWidth=0, custom__fillBelowTo="lower", custom__fillOpacity=20),
        override("best", custom__lineStyle={"fill": "dash", "dash": [8, 6]}),
    ],
    custom={"lineInterpolation": "stepAfter", "lineWidth": 2, "fillOpacity": 0},
)

ROWS: dict[str, list[Panel]] = {
    "At a glance": [
        number(
            "Phase",
            "The phase that the training is in.",
            f"convergd_phase{{{ON}}}",
            "{{phase}}",
            options={"textMode": "name"},
        ),
        number("λ", "Weight of the interaction loss in the phase.", f"convergd_lambda{{{ON}}}"),
        number(
            "Step of the last pair", "Training step.", f"convergd_pair_step{{{ON}}}", unit="locale"
        ),
        number(
            "Best step",
            "Training step of the best value of $monitor that the rules know.",
            f"convergd_monitor_best_step{{{MONITOR}}}",
            unit="locale",
        ),
        number(
            "Patience left",
            "Pairs without a better value until the patience of a rule is used up.",
            f"min by (rule) (convergd_patience_remaining_checks{{{ON}}})",
            "{{rule}}",
            thresholds=steps((None, "red"), (1, "orange"), (2, "green")),
        ),
        number(
            "Not acknowledged",
            "Trainers that have neither acknowledged the last decision nor ended.",
            f"sum(convergd_decisions_unacknowledged{{{ON}}})",
            thresholds=steps((None, "green"), (1, "red")),
        ),
        number(
            "Errors",
            "Within an hour; none of them ended the run.",
            f"sum(increase(convergd_errors_total{{{ON}}}[1h]))",
            decimals=0,
            thresholds=steps((None, "green"), (1, "orange")),
        ),
        number(
            "Run",
            "Whether it is at work, over, or gone.",
            f"sum(up{{{ON}}}) + sum(convergd_run_ended{{{ON}}} or vector(0))",
            mappings=mapped(_0=("gone", "red"), _1=("at work", "green"), _2=("over", "blue")),
        ),
    ],
    "Convergence": [
        SCORE,
        graph(
            "Behind the best, in standard errors",
            "From 2 on ConvergenceDeclining fires.",
            [query(BEHIND, "{{monitor}}")],
            thresholds=steps((None, "green"), (2, "red")),
            custom={"thresholdsStyle": {"mode": "line"}},
        ),
        strengths("target"),
        strengths("baseline"),
        graph(
            "Probe loss",
            "Cross-entropy of the unmasked probe, of each network and their mean.",
            [query(f'convergd_monitor_value{{{ON}, monitor=~"probe_loss.*"}}', "{{monitor}}")],
            width=12,
        ),
        graph(
            "Output scale",
            "Mean difference that the variables make to the output.",
            [query(f'convergd_monitor_value{{{ON}, monitor=~"output_scale_.*"}}', "{{monitor}}")],
            width=12,
        ),
    ],
    "Decisions": [
        graph(
            "Phase and λ",
            "1 for the phase of the training, and the weight of the interaction loss.",
            [query(f"convergd_phase{{{ON}}}", "{{phase}}"), query(f"convergd_lambda{{{ON}}}", "λ")],
            custom={"lineInterpolation": "stepAfter", "fillOpacity": 10},
        ),
        graph(
            "Decisions and notices",
            "Within each interval; dry runs too.",
            [
                query(
                    f"increase(convergd_decisions_total{{{ON}}}[$__rate_interval])", "{{action}}"
                ),
                query(f"increase(convergd_notices_total{{{ON}}}[$__rate_interval])", "{{action}}"),
            ],
            custom={"drawStyle": "bars", "fillOpacity": 60},
        ),
        graph(
            "Time to acknowledgement",
            "From the delivery of a decision to the answer, over six hours.",
            [
                query(
                    quantile(q, "decision_ack_delay", "le, network", "6h"), f"{{{{network}}}} {q}"
                )
                for q in (0.5, 0.95)
            ],
            unit="s",
        ),
        graph(
            "Deliveries and rungs",
            "Attempts to tell trainers and people, by what came of them.",
            [
                query(
                    f"increase(convergd_control_deliveries_total{{{ON}}}[$__rate_interval])",
                    "{{channel}} {{outcome}}",
                ),
                query(
                    f"increase(convergd_escalations_total{{{ON}}}[$__rate_interval])",
                    "ladder: {{channel}} {{outcome}}",
                ),
            ],
            width=12,
            custom={"drawStyle": "bars", "fillOpacity": 60},
        ),
        graph(
            "Alerts of rules",
            "1 while the condition of a rule with an alert holds.",
            [query(f"convergd_rule_alert{{{ON}}}", "{{rule}} ({{severity}})")],
            width=12,
            custom={"lineInterpolation": "stepAfter", "fillOpacity": 10},
        ),
    ],
    "Evaluation": [
        graph(
            "Lag",
            "Steps from the last pair to the newest checkpoint of each network.",
            [query(f"convergd_evaluation_lag_steps{{{ON}}}", "{{network}}")],
        ),
        graph(
            "Checkpoints that wait",
            "For their partner or for their evaluation.",
            [query(f"convergd_queue_length{{{ON}}}", "waiting")],
        ),
        graph(
            "Age of the last checkpoint and pair",
            "Time since each.",
            [
                query(
                    f"time() - convergd_checkpoint_last_seen_timestamp_seconds{{{ON}}}",
                    "{{network}}",
                ),
                query(
                    f"time() - (convergd_evaluation_last_success_timestamp_seconds{{{ON}}} > 0)",
                    "pair",
                ),
            ],
            unit="s",
        ),
        graph(
            "Seconds a pair, by stage",
            "Mean of the pairs in an interval.",
            [query(f"{STAGES.format('sum')} / {STAGES.format('count')}", "{{stage}}")],
            unit="s",
            custom={"stacking": {"mode": "normal"}, "fillOpacity": 30},
        ),
        graph(
            "From seen to ready",
            "How long a checkpoint is waited for: 95th percentile.",
            [query(quantile(0.95, "checkpoint_ready_delay", "le", "1h"), "0.95")],
            unit="s",
        ),
        graph(
            "Masked inputs a second",
            "Through each network.",
            [query(f"rate(convergd_forward_rows_total{{{ON}}}[$__rate_interval])", "{{network}}")],
            unit="ops",
        ),
        graph(
            "Largest gap",
            "Relative gap of the extractions of the last pair, certified.",
            [query(f"convergd_solver_gap_max{{{ON}}}", "gap")],
            custom={"scaleDistribution": {"type": "log", "log": 10}},
        ),
        graph(
            "Memory",
            "Of the GPU, and of the value tables on the disk.",
            [
                query(f"convergd_device_memory_bytes{{{ON}}}", "GPUs"),
                query(f"convergd_value_cache_bytes{{{ON}}}", "value cache"),
            ],
            unit="bytes",
        ),
        graph(
            "Cache lookups",
            "Checkpoints looked up among the value tables, by what was found.",
            [
                query(
                    f"increase(convergd_value_cache_lookups_total{{{ON}}}[$__rate_interval])",
                    "{{outcome}}",
                )
            ],
            custom={"drawStyle": "bars", "fillOpacity": 60},
        ),
    ],
    "Faults": [
        graph(
            "Checkpoints by outcome",
            "Quarantined ones are damaged or do not fit; skipped ones have no partner.",
            [
                query(
                    f"increase(convergd_checkpoints_total{{{ON}}}[$__rate_interval])",
                    "{{network}} {{outcome}}",
                )
            ],
            custom={"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal"}},
        ),
        graph(
            "Errors",
            "By stage, those that did not end the run (`history`: no state), and devices in use.",
            [
                query(f"increase(convergd_errors_total{{{ON}}}[$__rate_interval])", "{{stage}}"),
                query(f"convergd_devices{{{ON}}}", "devices in use"),
            ],
            custom={"drawStyle": "bars", "fillOpacity": 60},
        ),
        graph(
            "Scans of directories",
            "By what caused them; `overflow` and `error` are events that were lost or failed.",
            [query(f"rate(convergd_watch_rescans_total{{{ON}}}[$__rate_interval])", "{{reason}}")],
            unit="ops",
        ),
        graph(
            "States",
            "1 is bad, but for `events`, the way in which a directory is watched.",
            [
                query(f"convergd_pair_stale{{{ON}}}", "{{network}} is silent"),
                query(f"convergd_pair_not_finite{{{ON}}}", "outputs are not finite"),
                query(f"1 - convergd_config_last_reload_successful{{{ON}}}", "reload refused"),
                query(f'convergd_watcher_mode{{{ON}, mode="events"}}', "{{network}} events"),
            ],
            width=24,
            custom={"lineInterpolation": "stepAfter"},
        ),
    ],
}


def place(rows: dict[str, list[Panel]]) -> list[Panel]:
    """Panels from left to right below the title of their row."""
    panels: list[Panel] = []
    y = 0
    for title, row in rows.items():
        where = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        panels.append(
            {"type": "row", "title": title, "collapsed": False, "gridPos": where, "panels": []}
        )
        y += 1
        x = height = 0
        for own in row:
            width = own.pop("width")
            if x + width > WIDTH:
                x, y = 0, y + height
            height = 4 if own["type"] == "stat" else 8
            panels.append({**own, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
            x += width
        y += height
    return [{"id": number, **own} for number, own in enumerate(panels, start=1)]


def variable(name: str, label: str, metric: str, of: str, *, first: str) -> dict[str, Any]:
    """A choice among the values of a label."""
    asked = f"label_values({metric}, {of})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": asked, "refId": name},
        "definition": asked,
        "refresh": 2,
        "sort": 1,
        "current": {"text": first, "value": first} if first else {},
    }


def dashboard() -> dict[str, Any]:
    """All of it."""
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }
    alerts = f'ALERTS{{{ON}, alertstate="firing"}}'
    return {
        "uid": "convergd",
        "title": "convergd",
        "description": "Convergence of two trainings, decisions, and how convergd itself does.",
        "tags": ["convergd"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                source,
                variable(
                    "instance", "Run", 'convergd_build_info{job="convergd"}', "instance", first=""
                ),
                variable(
                    "monitor",
                    "Monitor",
                    'convergd_monitor_value{job="convergd"}',
                    "monitor",
                    first="convergence_score",
                ),
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Decisions",
                    "datasource": SOURCE,
                    "enable": True,
                    "iconColor": "purple",
                    "expr": f"increase(convergd_decisions_total{{{ON}}}[$__rate_interval]) > 0",
                    "titleFormat": "{{action}}",
                },
                {
                    "name": "Alerts",
                    "datasource": SOURCE,
                    "enable": True,
                    "iconColor": "red",
                    "expr": alerts,
                    "titleFormat": "{{alertname}}",
                },
            ]
        },
        "panels": place(ROWS),
    }


def main() -> None:
    """Write the file."""
    beside = Path(__file__).with_name("convergd.json")
    path = Path(sys.argv[1]) if sys.argv[1:] else beside
    path.write_text(json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
