//! What is told, and the key that makes it idempotent.

use super::{Format, Topic};
use crate::policy::Decision;
use crate::signal::Document;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Version of the JSON form.
const SCHEMA: u32 = 1;

/// One thing that is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Version of this form.
    pub schema: u32,
    /// Its key: the same event has the same, however often it is sent.
    pub id: String,
    /// `decision`, `unacknowledged` or `notice`.
    pub topic: String,
    /// Name of the run.
    pub run: String,
    /// In words for people.
    pub text: String,
    /// When it happened, in seconds since 1970.
    pub time: f64,
    /// The decision that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// What trainers are told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Document>,
    /// Networks whose trainers have not acknowledged it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<String>,
}

impl Event {
    /// Something in words.
    pub fn new(topic: Topic, id: String, run: &str, text: String, time: f64) -> Self {
        let (topic, run) = (topic.name().to_owned(), run.to_owned());
        Self {
            schema: SCHEMA,
            id,
            topic,
            run,
            text,
            time,
            decision: None,
            control: None,
            silent: Vec::new(),
        }
    }

    /// With the decision that it is about.
    pub fn about(self, decision: &Decision, document: &Document) -> Self {
        Self { decision: Some(decision.clone()), control: Some(document.clone()), ..self }
    }

    /// The body of a request.
    ///
    /// # Errors
    /// serde_json's.
    pub fn body(&self, format: Format) -> serde_json::Result<String> {
        match format {
            Format::Json => serde_json::to_string(self),
            Format::Slack => {
                let text = format!("*convergd* `{}`: {}", escape(&self.run), escape(&self.text));
                serde_json::to_string(&json!({ "text": text }))
            }
        }
    }
}

/// Slack reads these three.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A key of parts, such as a decision and its generation; in characters that a header may hold.
pub fn key(parts: &[&str]) -> String {
    let mut key = String::new();
    for byte in parts.join("/").bytes() {
        match byte {
            0x21..=0x7e => key.push(char::from(byte)),
            byte => key.push_str(&format!("%{byte:02X}")),
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_fits_into_a_header_and_slack_gets_plain_text() {
        assert_eq!(key(&["ab12", "früh peak@3", "7"]), "ab12/fr%C3%BCh%20peak@3/7");
        let event = Event::new(Topic::Notice, "1".into(), "a<b", "x & <!channel>".into(), 1.0);
        let body = event.body(Format::Slack).expect("a body");
        assert_eq!(body, r#"{"text":"*convergd* `a&lt;b`: x &amp; &lt;!channel&gt;"}"#);
        let body = event.body(Format::Json).expect("a body");
        assert_eq!(serde_json::from_str::<Event>(&body).expect("read"), event);
    }
}
