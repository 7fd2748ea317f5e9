//! The thread of a webhook.

use super::{Address, Endpoint, Event, Format, Webhook};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender as Channel, TrySendError, bounded};
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

/// What waits for one webhook beside what it sends; the rest waits in the history.
const QUEUE: usize = 16;
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
    /// The webhook.
    pub webhook: String,
    /// The key of the message.
    pub id: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was given up, if it was.
    pub error: Option<String>,
}

/// A thread that sends to one webhook. It ends when this value is dropped, after what it does just then.
#[derive(Debug)]
pub struct Sender {
    queue: Channel<Message>,
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

/// Why an attempt failed.
struct Failure {
    message: String,
    /// Whether another attempt can do better.
    is_passing: bool,
}

impl Sender {
    /// Starts the thread. The address and the secret are taken from the environment here.
    ///
    /// # Errors
    /// A variable that is not set, or that holds no address.
    pub fn start(webhook: &Webhook, reports: Channel<Report>) -> Result<Self, String> {
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
        std::thread::spawn(move || client.serve(&messages, &reports));
        Ok(Self { queue, _life: life })
    }

    /// Queues a message; false where the queue is full, and it has to wait in the history.
    pub fn offer(&self, message: Message) -> bool {
        match self.queue.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
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

    /// Tries until it is taken or given up; nothing where the end has come before.
    fn deliver(&self, message: &Message) -> Option<Report> {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        let error = loop {
            attempts += 1;
            let Err(Failure { message, is_passing }) = self.attempt(message) else { break None };
            let is_last = !is_passing || attempts > self.retries;
            let next = if is_last { "given up".to_owned() } else { format!("again in {pause:?}") };
            tracing::warn!(webhook = self.name, to = %self.address, attempts, "not delivered: {message}; {next}");
            if is_last {
                break Some(message);
            }
            if self.end.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return None;
            }
            pause = (2 * pause).min(LONGEST_PAUSE);
        };
        Some(Report { webhook: self.name.clone(), id: message.id.clone(), attempts, error })
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
