//! A text with its variables boxed and numbered.

use super::{MARGIN, Part, WIDTH};
use crate::explanation::Token;
use crate::telemetry::chart::px;
use maud::html;

/// Height of a line.
const LINE: f64 = 30.0;
/// Longer runs of words that are no variables are shortened, to so many at each end.
const LONGEST_RUN: usize = 24;
const KEPT_OF_A_RUN: usize = 10;
/// Longest word in characters.
const WORD: usize = 40;

/// A word in its place.
struct Placed {
    x: f64,
    y: f64,
    width: f64,
    text: String,
    number: Option<usize>,
}

pub(super) fn draw(tokens: &[Token]) -> Part {
    let (placed, height) = place(&shortened(tokens));
    let drawn = html! {
        @for Placed { x, y, width, text, number } in &placed {
            @if let Some(number) = number {
                rect.word x=(px(*x)) y=(px(y - 17.0)) width=(px(*width)) height="24" rx="3" {}
                text.small.target.strong x=(px(x + 5.0)) y=(px(*y)) { (number) }
                text x=(px(x + 7.0 + digits_width(*number))) y=(px(*y)) { (text) }
            } @else {
                text.quiet x=(px(*x)) y=(px(*y)) { (text) }
            }
        }
    };
    Part { drawn, height }
}

fn place(tokens: &[Token]) -> (Vec<Placed>, f64) {
    let (mut x, mut y) = (MARGIN, 22.0);
    let mut placed = Vec::new();
    for token in tokens {
        let text = super::super::cut(&token.text, WORD);
        let number = token.variable.map(|index| index + 1);
        let width = width(&text) + number.map_or(0.0, |number| 14.0 + digits_width(number));
        if x + width > WIDTH - MARGIN && x > MARGIN {
            (x, y) = (MARGIN, y + LINE);
        }
        placed.push(Placed { x, y, width, text, number });
        x += width + 7.0;
    }
    (placed, y + 8.0)
}

fn digits_width(number: usize) -> f64 {
    7.5 * number.to_string().len() as f64
}

/// Estimated: ideographs and the like are as wide as the line is high.
fn width(text: &str) -> f64 {
    text.chars().map(|c| if c >= '\u{1100}' { 13.5 } else { 8.3 }).sum()
}

/// Without the middle of long runs that hold no variable.
fn shortened(tokens: &[Token]) -> Vec<Token> {
    let runs = tokens.chunk_by(|a, b| a.variable.is_none() && b.variable.is_none());
    let run = |run: &[Token]| {
        if run.len() <= LONGEST_RUN {
            return run.to_vec();
        }
        let ellipsis = Token { text: "…".to_owned(), variable: None };
        [&run[..KEPT_OF_A_RUN], &[ellipsis], &run[run.len() - KEPT_OF_A_RUN..]].concat()
    };
    runs.flat_map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(count: usize, variables: &[usize]) -> Vec<Token> {
        let variable = |at: usize| variables.iter().position(|&variable| variable == at);
        let token = |at: usize| Token { text: format!("w{at}"), variable: variable(at) };
        (0..count).map(token).collect()
    }

    #[test]
    fn long_runs_without_variables_are_shortened() {
        let short = shortened(&tokens(100, &[50]));
        assert_eq!(short.len(), 43);
        assert_eq!((short[10].text.as_str(), short[21].text.as_str()), ("…", "w50"));
        assert_eq!(shortened(&tokens(24, &[])).len(), 24);
    }

    #[test]
    fn words_stay_within_the_picture_and_do_not_overlap() {
        let (placed, height) = place(&tokens(60, &[0, 7, 33]));
        for pair in placed.windows(2) {
            let is_beside = pair[0].y == pair[1].y && pair[0].x + pair[0].width < pair[1].x;
            assert!(is_beside || pair[1].y > pair[0].y);
        }
        assert!(placed.iter().all(|word| word.x + word.width <= WIDTH - MARGIN));
        assert!(placed.last().unwrap().y < height && placed.last().unwrap().y > 22.0);
        assert_eq!(placed[7].number, Some(2));
    }
}
