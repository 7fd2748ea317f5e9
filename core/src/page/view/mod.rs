//! The page: a whole without its script, in parts that the script puts in the place of old ones.
//!
//! A part is an element with an id. `/` has all of them, `/parts/NAME` those that belong together, both for the
//! [`Choice`] in the query.

mod glance;
mod monitors;
mod samples;
mod strength;
mod tables;

use super::api::number;
use super::choice::Choice;
use super::explained::Listed;
use super::guard::allow_own_style;
use super::{Refusal, Site, Snapshot, answer};
use crate::explanation::{self, Explanation};
use crate::telemetry::report;
use crate::telemetry::strength_chart::hatching;
use axum::extract::{Path, Query, State};
use axum::http::{Uri, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use std::sync::Arc;

/// Interactions in the picture of a sample.
const IN_PICTURE: usize = 12;
/// Interactions of a sample in the list.
const IN_LIST: usize = 3;
/// Samples in a list.
const LISTED: usize = 8;

/// What is shown.
#[derive(Clone)]
struct View {
    snapshot: Arc<Snapshot>,
    choice: Choice,
}

/// What is chosen; what cannot be read is chosen no more.
fn choice(uri: &Uri) -> Choice {
    Query::try_from_uri(uri).map(|query| query.0).unwrap_or_default()
}

/// Draws on a thread that may take its time.
async fn draw(
    site: &Arc<Site>,
    view: View,
    make: impl FnOnce(&View) -> Markup + Send + 'static,
) -> Result<String, Refusal> {
    answer(site, &site.readers, move |_| Ok(make(&view).into_string())).await
}

/// `GET /`.
pub(super) async fn page(State(site): State<Arc<Site>>, uri: Uri) -> Response {
    match whole(&site, &uri).await {
        Ok(page) => Html(page).into_response(),
        Err(Refusal { status, message }) => (status, message).into_response(),
    }
}

async fn whole(site: &Arc<Site>, uri: &Uri) -> Result<String, Refusal> {
    let choice = choice(uri);
    let snapshot = answer(site, &site.readers, Site::snapshot).await?;
    let view = View { snapshot, choice };
    let list = match choice.samples {
        Some(_) => Some(list(site, &view).await),
        None => None,
    };
    let explained = match choice.sample {
        Some(sample) => Some(explained(site, &view, sample).await),
        None => None,
    };
    draw(site, view, move |view| view.page(list.as_ref(), explained.as_ref())).await
}

/// `GET /parts/NAME`.
pub(super) async fn part(
    State(site): State<Arc<Site>>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Html<String>, Refusal> {
    let choice = choice(&uri);
    let snapshot = answer(&site, &site.readers, Site::snapshot).await?;
    let view = View { snapshot, choice };
    let part = match name.as_str() {
        "live" => live(&site, view).await?,
        "monitor" => draw(&site, view, View::monitor).await?,
        "strength" => draw(&site, view, View::strength).await?,
        "samples" => {
            let list = list(&site, &view).await;
            draw(&site, view, move |view| view.list(Some(&list))).await?
        }
        "sample" => {
            let sample = choice.sample.ok_or_else(|| Refusal::bad("`sample` is missing"))?;
            let explained = explained(&site, &view, sample).await;
            draw(&site, view, move |view| view.explanation(Some(&explained))).await?
        }
        other => return Err(Refusal::not_found(format!("there is no part `{other}`"))),
    };
    Ok(Html(part))
}

/// All that follows the run: of those who have chosen the same, drawn for the first who asks.
async fn live(site: &Arc<Site>, view: View) -> Result<String, Refusal> {
    let drawn = answer(site, &site.readers, move |_| {
        let draw = || view.live().into_string();
        Ok(view.snapshot.drawn(&view.choice, draw))
    });
    Ok(drawn.await?.to_string())
}

/// `GET /explanation/STEP/SAMPLE`: the page of `convergd explain`.
pub(super) async fn explanation(
    State(site): State<Arc<Site>>,
    Path((step, sample)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let (step, sample) = (number("step", &step)?, number("sample", &sample)?);
    let page = answer(&site, &site.extractors, move |site| {
        Ok(site.explain(Some(step), sample)?.page(2 * IN_PICTURE))
    });
    Ok(allow_own_style(page.await?))
}

/// `GET /page.css`: the style of the report and of explanations, and what the page has beside.
pub(super) async fn style() -> impl IntoResponse {
    let style = [report::STYLE, explanation::STYLE, include_str!("page.css")].concat();
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], style)
}

/// `GET /page.js`.
pub(super) async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page.js"))
}

async fn list(site: &Arc<Site>, view: &View) -> Result<Listed, Refusal> {
    let (step, from) = (view.step(), view.choice.samples.unwrap_or(0));
    answer(site, &site.extractors, move |site| site.list(step, from, LISTED)).await
}

async fn explained(
    site: &Arc<Site>,
    view: &View,
    sample: usize,
) -> Result<Arc<Explanation>, Refusal> {
    let step = view.step();
    answer(site, &site.extractors, move |site| site.explain(step, sample)).await
}

type Found<T> = Result<T, Refusal>;

impl View {
    fn page(
        &self,
        list: Option<&Found<Listed>>,
        explained: Option<&Found<Arc<Explanation>>>,
    ) -> Markup {
        let run = &self.snapshot.status.run;
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href="/page.css";
                    title { (run) " – convergd" }
                    script src="/page.js" defer {}
                }
                body {
                    a.skip href="#main" { "Skip to the charts" }
                    (hatching())
                    header.top {
                        p.brand { strong { "convergd" } span.of { (run) } }
                        nav aria-label="On this page" { ul {
                            @for (id, name) in PARTS { li { a href={ "#" (id) } { (name) } } }
                        } }
                        p #connection role="status" {}
                    }
                    noscript { p.note { "Without its script this page does not follow the run; load it again to see what is new." } }
                    p.hidden #announcement role="status" {}
                    (self.glance())
                    main #main tabindex="-1" {
                        (self.monitors_section())
                        (self.strength_section())
                        (self.decisions_section())
                        (self.samples_section(list, explained))
                        (self.pairs_section())
                        (self.facts_section())
                    }
                    footer {
                        "convergd " (env!("CARGO_PKG_VERSION")) ", from "
                        code { (self.snapshot.report.state_directory) } ". For programs: "
                        a href="/api/v1/status" { "status" } ", "
                        a href="/api/v1/history" { "history" } ", "
                        a href="/api/v1/decisions" { "decisions" } ", "
                        a href="/metrics" { "metrics" } "."
                    }
                }
            }
        }
    }

    /// All that follows the run.
    fn live(&self) -> Markup {
        html! {
            (self.glance())
            (self.monitor_choice())
            (self.monitor())
            (self.panels())
            (self.strength())
            (self.decisions())
            (self.samples_choice())
            // Which somebody has chosen stays as it is.
            @if self.choice.samples.is_none() { (self.list(None)) }
            (self.pairs())
            (self.set_aside())
        }
    }

    /// What is chosen beside `names`, for a form without script.
    fn hidden_choices(&self, names: &[&str]) -> Markup {
        let others = self.choice.pairs().into_iter().filter(|(name, _)| !names.contains(&&**name));
        html! { @for (name, value) in others { input type="hidden" name=(name) value=(value); } }
    }
}

const PARTS: [(&str, &str); 5] = [
    ("monitors", "Monitors"),
    ("strength", "Strength"),
    ("decisions", "Decisions"),
    ("samples", "Samples"),
    ("pairs", "Pairs"),
];
