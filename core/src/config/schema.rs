//! The JSON Schema of a configuration file, for editors that complete and check while one writes.

use super::file::{Duration, Factor, File, Share, Size};
use crate::convergence::{Goal, Monitor};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use std::borrow::Cow;

/// The schema as text; `config/convergd.schema.json` is this.
///
/// # Errors
/// serde_json's.
pub fn schema() -> serde_json::Result<String> {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<File>();
    schema.insert("title".to_owned(), "convergd".into());
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
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

impl JsonSchema for Monitor {
    fn schema_name() -> Cow<'static, str> {
        "Monitor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = Self::ALL.iter().map(|monitor| monitor.name()).collect();
        json_schema!({ "type": "string", "enum": names, "description": "A number that is followed over the pairs of a run" })
    }
}

impl JsonSchema for Goal {
    fn schema_name() -> Cow<'static, str> {
        "Goal".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ["max", "min"], "description": "Whether more or less of a monitor is better" })
    }
}
