//! The interactions: a row each, with a bar for each network around zero.

use super::{LINE, MARGIN, Part, WIDTH};
use crate::explanation::{Explanation, Interaction, NETWORKS, cut, shown, signed};
use crate::telemetry::chart::{Axis, extent, px};
use maud::{Markup, html};

/// Height of a row.
const ROW: f64 = 34.0;
/// Where the bars begin and end.
const BARS: (f64, f64) = (400.0, 730.0);
/// Where effects end and verdicts begin.
const EFFECTS: f64 = 805.0;
const VERDICT: f64 = 820.0;
/// Characters in a line of variables; there are two lines.
const MEMBERS: usize = 40;

/// How a bar is drawn: filled where convergent, hatched where salient alone, hollow where not salient.
fn look(interaction: &Interaction, network: usize) -> &'static str {
    match (interaction.agreement.convergent, interaction.agreement.salient[network]) {
        (true, _) => "filled",
        (false, true) => "hatched",
        (false, false) => "hollow",
    }
}

/// The patterns of hatched bars.
pub(super) fn hatching() -> Markup {
    html! {
        defs { @for network in NETWORKS {
            pattern id=(format!("explanation-hatch-{network}")) width="5" height="5"
                patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                line class=(format!("hatch {network}")) x1="0" y1="0" x2="0" y2="5" {}
            }
        } }
    }
}

impl Explanation {
    pub(super) fn rows(&self, top: usize) -> Part {
        let all = &self.model.interactions;
        let interactions = &all[..top.min(all.len())];
        let effects = interactions.iter().flat_map(|interaction| interaction.effects);
        let axis = Axis::new(extent(effects.chain([0.0])), BARS.0, BARS.1);
        let ticks = axis.ticks(5);
        let top_of_rows = 2.0 * LINE + 26.0;
        let bottom = top_of_rows + ROW * interactions.len() as f64;
        let convergent = self.model.convergent();
        let heading = format!(
            "Salient interactions: {}, by the larger |effect| in log-odds; {convergent} convergent",
            shown(interactions.len(), all.len())
        );
        let drawn = html! {
            text.strong x=(MARGIN) y="16" { (heading) }
            (legend(LINE + 20.0))
            @for &tick in &ticks.values {
                @let x = px(axis.at(tick));
                line.rule x1=(x) x2=(x) y1=(px(top_of_rows)) y2=(px(bottom)) {}
                text.tick x=(x) y=(px(top_of_rows - 6.0)) text-anchor="middle" { (ticks.label(tick)) }
            }
            @let zero = px(axis.at(0.0));
            @for (row, interaction) in interactions.iter().enumerate() {
                (self.row(interaction, top_of_rows + ROW * row as f64, axis))
            }
            line.axis x1=(zero) x2=(zero) y1=(px(top_of_rows)) y2=(px(bottom)) {}
        };
        Part { drawn, height: bottom }
    }

    fn row(&self, interaction: &Interaction, y: f64, axis: Axis) -> Markup {
        let lines = two_lines(&self.members(interaction));
        let verdict = if interaction.agreement.convergent { "strong" } else { "quiet" };
        html! {
            line.rule x1=(MARGIN) x2=(WIDTH - MARGIN) y1=(px(y)) y2=(px(y)) {}
            rect.frame x=(MARGIN) y=(px(y + 8.0)) width="38" height="18" rx="3" {}
            text.small.strong x=(MARGIN + 19.0) y=(px(y + 21.0)) text-anchor="middle" {
                (interaction.kind_name())
            }
            @for (line, text) in lines.iter().enumerate() {
                @let middle = if lines.len() == 1 { 21.5 } else { 14.5 + 14.0 * line as f64 };
                text x=(MARGIN + 48.0) y=(px(y + middle)) { (text) }
            }
            @for (network, name) in NETWORKS.into_iter().enumerate() {
                @let (effect, top) = (interaction.effects[network], y + 5.0 + 13.0 * network as f64);
                (bar(axis, effect, top, &format!("bar {name} {}", look(interaction, network))))
                text class=(format!("small {name}")) x=(EFFECTS) y=(px(top + 9.5)) text-anchor="end" {
                    (signed(effect))
                }
            }
            text class=(format!("small {verdict}")) x=(VERDICT) y=(px(y + 21.0)) {
                (interaction.verdict())
            }
        }
    }
}

/// A bar from zero; none where there is no effect.
fn bar(axis: Axis, effect: f64, y: f64, class: &str) -> Markup {
    let (zero, end) = (axis.at(0.0), axis.at(effect));
    let width = (end - zero).abs().max(1.0);
    html! {
        @if effect != 0.0 {
            rect class=(class) x=(px(zero.min(end))) y=(px(y)) width=(px(width)) height="11" {}
        }
    }
}

/// What the bars mean.
fn legend(y: f64) -> Markup {
    let looks = [
        ("filled", "convergent: salient in both, same sign"),
        ("hatched", "salient, not convergent"),
        ("hollow", "not salient in this network"),
    ];
    let xs = [MARGIN + 170.0, MARGIN + 470.0, MARGIN + 680.0];
    html! {
        @for ((network, name), x) in NETWORKS.into_iter().enumerate().zip([MARGIN, MARGIN + 75.0]) {
            rect class=(format!("bar {name} filled")) x=(px(x)) y=(px(y - 9.0 + 2.0 * network as f64))
                width="12" height="8" {}
            text class=(format!("small {name}")) x=(px(x + 17.0)) y=(px(y)) { (name) }
        }
        @for ((look, meaning), x) in looks.into_iter().zip(xs) {
            rect class=(format!("bar target {look}")) x=(px(x)) y=(px(y - 9.0)) width="22" height="10" {}
            text.small.quiet x=(px(x + 28.0)) y=(px(y)) { (meaning) }
        }
    }
}

/// Broken at a comma where that is possible; what does not fit is cut.
fn two_lines(members: &str) -> Vec<String> {
    if members.chars().count() <= MEMBERS {
        return vec![members.to_owned()];
    }
    let mut first = String::new();
    let mut rest = Vec::new();
    for part in members.split(", ") {
        let fits = first.chars().count() + part.chars().count() + 2 <= MEMBERS;
        if rest.is_empty() && (fits || first.is_empty()) {
            first = if first.is_empty() { part.to_owned() } else { format!("{first}, {part}") };
        } else {
            rest.push(part);
        }
    }
    let first = if rest.is_empty() { first } else { first + "," };
    let lines = [cut(&first, MEMBERS + 1), cut(&rest.join(", "), MEMBERS)];
    lines.into_iter().filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_variables_take_two_lines() {
        assert_eq!(two_lines("1, 2"), ["1, 2"]);
        let words = (1..=9).map(|i| format!("{i} word")).collect::<Vec<_>>().join(", ");
        let lines = two_lines(&words);
        assert_eq!(
            lines,
            ["1 word, 2 word, 3 word, 4 word, 5 word,", "6 word, 7 word, 8 word, 9 word"]
        );
        let long = two_lines(&"x".repeat(99));
        assert_eq!(long.len(), 1);
        assert!(long[0].ends_with('…') && long[0].chars().count() <= MEMBERS + 1);
    }
}
