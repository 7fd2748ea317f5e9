//! `notify:` → [`Webhook`].

use super::Check;
use crate::config::file;
use crate::notify::{Address, Endpoint, Format, Topic, Webhook};
use std::collections::BTreeSet;
use std::time::Duration;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_RETRIES: usize = 3;
const MOST_RETRIES: usize = 10;

impl Check {
    pub(super) fn notify(&mut self, files: Vec<Option<file::Webhook>>) -> Option<Vec<Webhook>> {
        let mut names = BTreeSet::new();
        let wanted = files.len();
        let webhooks: Vec<Webhook> = files
            .into_iter()
            .enumerate()
            .filter_map(|(index, file)| {
                self.webhook(&format!("notify[{index}]"), file?, &mut names)
            })
            .collect();
        (webhooks.len() == wanted).then_some(webhooks)
    }

    fn webhook(
        &mut self,
        at: &str,
        file: file::Webhook,
        names: &mut BTreeSet<String>,
    ) -> Option<Webhook> {
        let name = file.name.filter(|name| !name.is_empty());
        let name = self.required(&format!("{at}.name"), name, "a name of its own");
        if let Some(name) = name.as_ref().filter(|name| !names.insert((*name).clone())) {
            let message = format!("is `{name}`, which another webhook has");
            self.checked.report(&format!("{at}.name"), message);
        }
        let endpoint = self.endpoint(at, file.url, file.url_env);
        let format = match file.format {
            None | Some(file::Format::Json) => Format::Json,
            Some(file::Format::Slack) => Format::Slack,
        };
        if format == Format::Slack && file.secret_env.is_some() {
            let message = "is sent with `format: json` only; the address of a Slack webhook is its secret, so give \
                           `url_env`";
            self.checked.report(&format!("{at}.secret_env"), message);
        }
        if let Some(variable) = &file.secret_env {
            self.variable(&format!("{at}.secret_env"), variable);
        }
        let timeout = file.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0);
        if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
            let message =
                format!("is {timeout:?}, but must be above 0 and at most {LONGEST_TIMEOUT:?}");
            self.checked.report(&format!("{at}.timeout"), message);
        }
        let retries =
            self.count(&format!("{at}.retries"), file.retries, 0..=MOST_RETRIES, DEFAULT_RETRIES);
        let on = match file.on {
            None => vec![Topic::Decision, Topic::Unacknowledged, Topic::Notice],
            Some(topics) => topics.into_iter().flatten().map(topic).collect(),
        };
        let retries = u32::try_from(retries?).unwrap_or(u32::MAX);
        let (name, endpoint) = (name?, endpoint?);
        Some(Webhook { name, endpoint, format, secret_env: file.secret_env, timeout, retries, on })
    }

    fn endpoint(
        &mut self,
        at: &str,
        url: Option<String>,
        url_env: Option<String>,
    ) -> Option<Endpoint> {
        match (url, url_env) {
            (Some(url), None) => match url.parse() {
                Ok(address) => Some(Endpoint::Url(address)),
                Err(error) => {
                    self.checked.report(&format!("{at}.url"), format!("{error}"));
                    None
                }
            },
            (None, Some(name)) => {
                let at = format!("{at}.url_env");
                let value = self.variable(&at, &name);
                if value.is_some_and(|value| value.parse::<Address>().is_err()) {
                    // What it holds may be a secret all the same.
                    let message =
                        format!("names the variable `{name}`, which holds no http or https URL");
                    self.checked.report(&at, message);
                }
                Some(Endpoint::Variable(name))
            }
            (None, None) => {
                let message = "is missing: give `url`, or `url_env` where the address is a secret";
                self.checked.report(&format!("{at}.url"), message);
                None
            }
            (Some(_), Some(_)) => {
                self.checked
                    .report(&format!("{at}.url"), "stands beside `url_env`; leave one of them out");
                None
            }
        }
    }

    /// The value of a variable, where this file is to be run here; that it is not set is a mistake then.
    fn variable(&mut self, at: &str, name: &str) -> Option<String> {
        if name.is_empty() || name.contains(['=', '\0']) {
            self.checked.report(at, "is no name of an environment variable");
            return None;
        }
        if !self.has_environment {
            return None;
        }
        let value = std::env::var(name).ok().filter(|value| !value.is_empty());
        if value.is_none() {
            let message = format!(
                "names the variable `{name}`, which is not set in this environment; set it for `convergd run`"
            );
            self.checked.report(at, message);
        }
        value
    }
}

fn topic(topic: file::Topic) -> Topic {
    match topic {
        file::Topic::Decision => Topic::Decision,
        file::Topic::Unacknowledged => Topic::Unacknowledged,
        file::Topic::Notice => Topic::Notice,
    }
}
