"""Make the PrometheusRule of the alert rules.

python deploy/kubernetes/make_rules.py > deploy/kubernetes/monitoring/prometheusrule.yaml
"""

from __future__ import annotations

import textwrap
from pathlib import Path

RULES = Path(__file__).resolve().parents[1] / "prometheus/convergd.rules.yml"
HEAD = """\
# Made by deploy/kubernetes/make_rules.py of deploy/prometheus/convergd.rules.yml; change that one.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: convergd
spec:
"""


def rule() -> str:
    """The text of the file, with the comments of the rules."""
    groups = RULES.read_text(encoding="utf-8").partition("\ngroups:\n")
    return HEAD + textwrap.indent("".join(groups[1:]).lstrip("\n"), "  ")


if __name__ == "__main__":
    print(rule(), end="")
