//! The JSON Schema of a configuration file, for editors that complete and check while one writes.

use super::file::{Duration, Factor, File, Share, Size};
use crate::convergence::Monitor;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The schema as text; `config/convergd.schema.json` is this.
///
/// # Errors
/// serde_json's.
pub fn schema() -> serde_json::Result<String> {
    let settings = SchemaSettings::draft07().with_transform(RecursiveTransform(require));
    let mut schema = settings.into_generator().into_root_schema_for::<File>();
    schema.insert("title".to_owned(), "convergd".into());
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}

/// Lists the properties that may not be null as required. Every field of the loose types has a default, so that all
/// mistakes of a file are found at once, and schemars takes none for required.
fn require(schema: &mut Schema) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    let Some(properties) = properties else { return };
    let mut required: Vec<Value> = Vec::new();
    for (name, property) in properties.iter_mut() {
        let Some(property) = property.as_object_mut() else { continue };
        // It says only that the field may be left out.
        if property.get("default") == Some(&Value::Null) {
            property.remove("default");
        }
        if !may_be_null(property) {
            required.push(name.as_str().into());
        }
    }
    if !required.is_empty() {
        schema.insert("required".to_owned(), Value::Array(required));
    }
}

fn may_be_null(property: &Map<String, Value>) -> bool {
    let is_null = |kind: &Value| kind == "null" || kind.get("type").is_some_and(|t| t == "null");
    let holds_null = |kinds: &Value| kinds.as_array().is_some_and(|all| all.iter().any(is_null));
    ["type", "anyOf", "oneOf"].iter().filter_map(|key| property.get(*key)).any(holds_null)
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[0-9.]+ *(ms|s|m|h)$", "description": "A duration with its unit, such as 500ms, 30s, 10m or 2h" })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[0-9]+ *(KiB|MiB|GiB|TiB)$", "description": "A number of bytes with its unit, such as 16MiB or 64GiB" })
    }
}

impl JsonSchema for Factor {
    fn schema_name() -> Cow<'static, str> {
        "Factor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^[0-9.]+ *%$"}], "description": "A number such as 0.01, or 1%" })
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[0-9.]+ *%$", "description": "A share with its unit, such as 5%" })
    }
}

/// What a monitor is called.
pub(super) struct MonitorName;

impl JsonSchema for MonitorName {
    fn schema_name() -> Cow<'static, str> {
        "Monitor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = Monitor::ALL.iter().map(|monitor| monitor.name()).collect();
        json_schema!({ "type": "string", "enum": names, "description": "A number that is followed over the pairs of a run" })
    }
}

/// What a goal is called.
pub(super) struct GoalName;

impl JsonSchema for GoalName {
    fn schema_name() -> Cow<'static, str> {
        "Goal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ["max", "min"], "description": "Whether more or less of a monitor is better" })
    }
}
