//! The protocol buffers that event files are made of: of TensorFlow's `Event` and `Summary` the fields that are written here.

use prost::{Message, Oneof};

/// The first event of a file says this; older versions have TensorBoard forget what has a later step.
const FILE_VERSION: &str = "brain.Event:2";
/// The plugin that shows texts, as Markdown.
const TEXT_PLUGIN: &str = "text";
/// `DT_STRING`.
const STRING: i32 = 7;

/// One record of a file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub(super) wall_time: f64,
    /// Training step.
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    /// What happened.
    #[prost(oneof = "What", tags = "3, 5")]
    pub(super) what: Option<What>,
}

/// What an event tells.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum What {
    /// That a file begins.
    #[prost(string, tag = "3")]
    FileVersion(String),
    /// Numbers and texts of a step.
    #[prost(message, tag = "5")]
    Summary(Summary),
}

/// Numbers and texts of a step.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    /// One for each tag.
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<Value>,
}

/// A number or a text.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    /// The name of the curve, or of the list of texts.
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    /// Which plugin shows it, and what it means.
    #[prost(message, optional, tag = "9")]
    metadata: Option<Metadata>,
    /// Itself.
    #[prost(oneof = "Content", tags = "2, 8")]
    content: Option<Content>,
}

/// What a tag holds at a step.
#[derive(Clone, PartialEq, Oneof)]
enum Content {
    #[prost(float, tag = "2")]
    Number(f32),
    #[prost(message, tag = "8")]
    Texts(Texts),
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, optional, tag = "1")]
    plugin: Option<Plugin>,
}

#[derive(Clone, PartialEq, Message)]
struct Plugin {
    #[prost(string, tag = "1")]
    name: String,
}

/// A tensor of strings without dimensions.
#[derive(Clone, PartialEq, Message)]
struct Texts {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    texts: Vec<Vec<u8>>,
}

/// That of a scalar: no dimension.
#[derive(Clone, PartialEq, Message)]
struct Shape {}

impl Event {
    /// The first one of a file.
    pub(super) fn begin(wall_time: f64) -> Self {
        Self { wall_time, step: 0, what: Some(What::FileVersion(FILE_VERSION.to_owned())) }
    }

    /// Numbers and texts of a step.
    pub(super) fn of(step: u64, wall_time: f64, values: Vec<Value>) -> Self {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        Self { wall_time, step, what: Some(What::Summary(Summary { values })) }
    }

    /// The numbers and texts of a step; nothing of the first event of a file.
    pub(super) fn values(&self) -> Option<&[Value]> {
        match &self.what {
            Some(What::Summary(summary)) => Some(&summary.values),
            _ => None,
        }
    }
}

impl Value {
    /// A point of a curve; TensorBoard keeps float32.
    pub(super) fn number(tag: impl Into<String>, number: f64) -> Self {
        let content = Some(Content::Number(number as f32));
        Self { tag: tag.into(), metadata: None, content }
    }

    /// A text, as Markdown.
    pub(super) fn text(tag: &str, text: String) -> Self {
        let plugin = Some(Plugin { name: TEXT_PLUGIN.to_owned() });
        let shape = Some(Shape {});
        let texts = Texts { kind: STRING, shape, texts: vec![text.into_bytes()] };
        Self {
            tag: tag.to_owned(),
            metadata: Some(Metadata { plugin }),
            content: Some(Content::Texts(texts)),
        }
    }
}
