//! `/api/v1/…`: the state of the run for programs, in the objects that commands print. docs/page.md has them.

use super::{Listed, Refusal, Site, answer};
use crate::account::{self, Status};
use axum::extract::{Path, Query, State};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::str::FromStr;
use std::sync::Arc;

/// Notices and checkpoints set aside in a status.
const MOST_IN_STATUS: usize = 100;
/// Pairs in an answer: without a limit, and at most. Each takes some four kilobytes.
const PAIRS: (usize, usize) = (100, 500);
/// Decisions or notices in an answer.
const DECISIONS: (usize, usize) = (100, 500);
/// Samples in an answer: two extractions each.
const SAMPLES: (usize, usize) = (10, 20);
/// Interactions of a sample in a list.
const STRONGEST: (usize, usize) = (3, 50);

type Answer = Result<Text, Refusal>;

/// JSON, written on the thread that has made it.
pub(super) struct Text(String);

impl From<Value> for Text {
    fn from(value: Value) -> Self {
        Self(value.to_string())
    }
}

impl IntoResponse for Text {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

/// `?from=&limit=` of a list.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Part {
    from: u64,
    limit: Option<usize>,
}

/// The same of samples, with `top`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PartOfSamples {
    from: usize,
    limit: Option<usize>,
    top: Option<usize>,
}

fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Refusal> {
    Ok(Query::try_from_uri(uri)?.0)
}

fn limited(limit: Option<usize>, (usual, most): (usize, usize)) -> usize {
    limit.unwrap_or(usual).clamp(1, most)
}

/// A number in a path.
pub(super) fn number<T: FromStr>(what: &str, text: &str) -> Result<T, Refusal> {
    let refuse = |_| Refusal::bad(format!("the {what} `{text}` is no whole number"));
    text.parse().map_err(refuse)
}

/// `GET /api/v1/status`.
pub(super) async fn status(State(site): State<Arc<Site>>) -> Answer {
    let status = answer(&site, &site.readers, |site| {
        let status = Status::of(&site.config, &site.history()?, MOST_IN_STATUS)?;
        Ok(status.json().into())
    });
    status.await
}

/// `GET /api/v1/history?from=STEP&limit=COUNT`.
pub(super) async fn history(State(site): State<Arc<Site>>, uri: Uri) -> Answer {
    let Part { from, limit } = query(&uri)?;
    let limit = limited(limit, PAIRS);
    let pairs = answer(&site, &site.readers, move |site| {
        let history = site.history()?;
        // One more tells whether there is one.
        let mut pairs = history.pairs_from(from, limit + 1)?;
        let next = pairs.get(limit).map(|pair| pair.step);
        pairs.truncate(limit);
        Ok(json!({
            "run": site.config.name, "facts": account::facts(&history)?,
            "count": history.count_pairs()?,
            "pairs": pairs.iter().map(account::pair).collect::<Vec<_>>(), "next": next,
        })
        .into())
    });
    pairs.await
}

/// `GET /api/v1/decisions?from=NUMBER&limit=COUNT`.
pub(super) async fn decisions(State(site): State<Arc<Site>>, uri: Uri) -> Answer {
    let Part { from, limit } = query(&uri)?;
    let (from, limit) = (usize::try_from(from).unwrap_or(usize::MAX), limited(limit, DECISIONS));
    let decisions = answer(&site, &site.readers, move |site| {
        let history = site.history()?;
        let all = history.decisions()?;
        let decisions = all.iter().skip(from).take(limit);
        let decisions = decisions.map(|row| account::decision(&history, row));
        let decisions = decisions.collect::<Result<Vec<_>, _>>()?;
        let notices = history.notices_from(from, limit)?;
        let (of_decisions, of_notices) = (all.len() as u64, history.count_notices()?);
        let next = from.saturating_add(limit);
        let is_more = of_decisions.max(of_notices) > next as u64;
        Ok(json!({
            "run": site.config.name,
            "count": {"decisions": of_decisions, "notices": of_notices},
            "decisions": decisions, "notices": notices, "next": is_more.then_some(next),
        })
        .into())
    });
    decisions.await
}

/// `GET /api/v1/samples`: those of the pair that `explain` takes without a step.
pub(super) async fn samples_of_best(State(site): State<Arc<Site>>, uri: Uri) -> Answer {
    list(site, None, &uri).await
}

/// `GET /api/v1/samples/STEP?from=SAMPLE&limit=COUNT&top=COUNT`.
pub(super) async fn samples(
    State(site): State<Arc<Site>>,
    Path(step): Path<String>,
    uri: Uri,
) -> Answer {
    let step = number("step", &step)?;
    list(site, Some(step), &uri).await
}

async fn list(site: Arc<Site>, step: Option<u64>, uri: &Uri) -> Answer {
    let PartOfSamples { from, limit, top } = query(uri)?;
    let (limit, top) = (limited(limit, SAMPLES), limited(top, STRONGEST));
    let listed = answer(&site, &site.extractors, move |site| {
        let listed = site.list(step, from, limit)?;
        Ok(listed_json(&site.config.name, &listed, top).into())
    });
    listed.await
}

fn listed_json(run: &str, listed: &Listed, top: usize) -> Value {
    let list = listed.explanations.iter().map(|explanation| explanation.strongest_json(top));
    json!({
        "run": run, "step": listed.step, "samples": listed.samples, "from": listed.from,
        "list": list.collect::<Vec<_>>(), "next": listed.next(),
    })
}

/// `GET /api/v1/samples/STEP/SAMPLE`.
pub(super) async fn sample(
    State(site): State<Arc<Site>>,
    Path((step, sample)): Path<(String, String)>,
) -> Answer {
    let (step, sample) = (number("step", &step)?, number("sample", &sample)?);
    let explained = answer(&site, &site.extractors, move |site| {
        Ok(site.explain(Some(step), sample)?.json().into())
    });
    explained.await
}
