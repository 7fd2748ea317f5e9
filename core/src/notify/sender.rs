//! The thread of a webhook.

use super::{Address, Endpoint, Event, Format, Webhook};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender as Channel, bounded};
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

/// What waits for one webhook beside what it sends; the rest waits in the history.
const QUEUE: usize = 16;
/// Reports that wait to be written down.
const REPORTS: usize = 64;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is to be sent.
#[derive(Debug)]
pub struct Message {
    /// Its key in the history and for the receiver.
    pub id: String,
    /// What is told.
    pub event: Event,
}

/// What came of a message.
#[derive(Debug)]
pub struct Report {
    /// The key of the message.
    pub id: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was not delivered, if it was not.
    pub failure: Option<Failure>,
}

/// Why an attempt failed.
#[derive(Debug)]
pub struct Failure {
    /// In words, without secrets.
    pub message: String,
    /// Whether another attempt can do better.
    pub is_passing: bool,
}

/// A thread that sends to one webhook. It ends when this value is dropped, after what it does just then; what it reports
/// after that is lost.
#[derive(Debug)]
pub struct Sender {
    queue: Channel<Message>,
    reports: Receiver<Report>,
    // Closed with this value: a pause between two attempts ends then.
    _life: Channel<()>,
}

/// What the thread needs.
struct Client {
    name: String,
    address: Address,
    secret: Option<String>,
    format: Format,
    retries: u32,
    agent: Agent,
    end: Receiver<()>,
}

impl Sender {
    /// Starts the thread. The address and the secret are taken from the environment here.
    ///
    /// # Errors
    /// A variable that is not set, or that holds no address.
    pub fn start(webhook: &Webhook) -> Result<Self, String> {
        let variable = |name: &str| {
            let value = std::env::var(name).ok().map(|value| value.trim().to_owned());
            value.filter(|value| !value.is_empty()).ok_or_else(|| {
                format!("webhook `{}`: the environment variable `{name}` is not set", webhook.name)
            })
        };
        let address = match &webhook.endpoint {
            Endpoint::Url(address) => address.clone(),
            Endpoint::Variable(name) => variable(name)?
                .parse()
                .map_err(|error| format!("webhook `{}`: `{name}` {error}", webhook.name))?,
        };
        let secret = webhook.secret_env.as_deref().map(variable).transpose()?;
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .timeout_global(Some(webhook.timeout))
            // A redirect would carry the secret elsewhere.
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("convergd/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build()
            .new_agent();
        let (life, end) = bounded(0);
        let (name, format, retries) = (webhook.name.clone(), webhook.format, webhook.retries);
        let client = Client { name, address, secret, format, retries, agent, end };
        let (queue, messages) = bounded(QUEUE);
        let (reporter, reports) = bounded(REPORTS);
        std::thread::spawn(move || client.serve(&messages, &reporter));
        Ok(Self { queue, reports, _life: life })
    }

    /// What came of a message, if something has.
    pub fn report(&self) -> Option<Report> {
        self.reports.try_recv().ok()
    }

    /// Queues a message; false where the queue is full, and it has to wait in the history.
    pub fn offer(&self, message: Message) -> bool {
        self.queue.try_send(message).is_ok()
    }
}

impl Client {
    fn serve(&self, messages: &Receiver<Message>, reports: &Channel<Report>) {
        for message in messages {
            let Some(report) = self.deliver(&message) else { return };
            if reports.send(report).is_err() {
                return;
            }
        }
    }

    /// Tries until it is taken or has failed often enough; nothing where the end has come before.
    fn deliver(&self, message: &Message) -> Option<Report> {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        let failure = loop {
            attempts += 1;
            let Err(failure) = self.attempt(message) else { break None };
            let Failure { message, is_passing } = &failure;
            let is_last = !is_passing || attempts > self.retries;
            let next = match (is_passing, is_last) {
                (false, _) => "given up".to_owned(),
                (true, true) => "tried again later".to_owned(),
                (true, false) => format!("again in {pause:?}"),
            };
            tracing::warn!(webhook = self.name, to = %self.address, attempts, "not delivered: {message}; {next}");
            if is_last {
                break Some(failure);
            }
            if self.end.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return None;
            }
            pause = (2 * pause).min(LONGEST_PAUSE);
        };
        Some(Report { id: message.id.clone(), attempts, failure })
    }

    fn attempt(&self, message: &Message) -> Result<(), Failure> {
        let refuse =
            |message: String, is_passing| Failure { message: self.hide(&message), is_passing };
        let body = message.event.body(self.format);
        let body = body.map_err(|error| refuse(error.to_string(), false))?;
        let mut request = self.agent.post(self.address.uri());
        request = request.header("Content-Type", "application/json");
        request = request.header("Idempotency-Key", &message.id);
        if let Some(secret) = &self.secret {
            request = request.header("Authorization", format!("Bearer {secret}"));
        }
        let answer = request.send(body).map_err(|error| refuse(error.to_string(), true))?;
        let status = answer.status();
        let is_passing = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        match status.is_success() {
            true => Ok(()),
            false => Err(refuse(format!("it answers {status}"), is_passing)),
        }
    }

    /// A message without secrets.
    fn hide(&self, message: &str) -> String {
        let message = self.address.hide_in(message);
        match &self.secret {
            Some(secret) => message.replace(secret.as_str(), "…"),
            None => message,
        }
    }
}
