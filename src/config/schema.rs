//! JSON Schema of the two kinds of file, written from the table of keys: what editors complete and explain by. It says what
//! a schema can say; `check` says the rest. Draft 7, which is what taplo reads.

use serde_json::{Map, Value, json};

use crate::config::keys::{KEY, Key, POLICY, REQUIRED, SERVER, Section, Takes};

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    Server,
    Policy,
}

/// What the table says in words of keys that only some tables must have: how its default begins, and the key and the
/// word it hangs on.
const CONDITIONS: [(&str, &str, &str); 2] =
    [("(required for a drop", "kind", "drop"), ("(required if sealed", "mode", "sealed")];

impl File {
    pub const ALL: [Self; 2] = [Self::Server, Self::Policy];

    /// Of the published file, beside the samples in `schema/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "sealdrop.schema.json",
            Self::Policy => "policy.schema.json",
        }
    }

    /// As it is published.
    pub fn text(self) -> String {
        let (title, sections) = match self {
            Self::Server => ("sealdrop.toml", &SERVER[..]),
            Self::Policy => ("policies/<user>.toml", &POLICY[..]),
        };
        let top = sections.iter().find(|section| section.header.is_empty());
        let mut schema = top.map(|top| object(top, sections)).unwrap_or_default();
        schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        schema.insert("title".to_owned(), json!(title));
        format!("{:#}\n", Value::Object(schema))
    }
}

fn object(section: &Section, all: &[&Section]) -> Map<String, Value> {
    let properties: Map<String, Value> =
        section.keys.iter().map(|key| (key.name.to_owned(), property(key, all))).collect();
    let required: Vec<&str> = section.keys.iter().filter(|key| key.default == REQUIRED).map(|key| key.name).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("description".to_owned(), json!(section.says));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("additionalProperties".to_owned(), json!(false));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    for (default, key, word) in CONDITIONS {
        let hang: Vec<&str> = section.keys.iter().filter(|k| k.default.starts_with(default)).map(|k| k.name).collect();
        if !hang.is_empty() {
            schema.insert("if".to_owned(), json!({ "properties": { key: { "const": word } }, "required": [key] }));
            schema.insert("then".to_owned(), json!({ "required": hang }));
        }
    }
    schema
}

fn property(key: &Key, all: &[&Section]) -> Value {
    const SIZE: &str = "^ *[0-9]+ *([kMGT]?B|[KMGT]iB) *$";
    const SPAN: &str = "^ *([0-9]+ *(s|sec|seconds?|min|minutes?|h|hours?|d|days?|w|weeks?) *)+$";
    // A duration, then pickups. `check` takes them the other way round as well.
    const EXPIRY: &str = "^ *(([0-9]+ *(s|sec|seconds?|min|minutes?|h|hours?|d|days?|w|weeks?) *)+ or )? *after +[1-9][0-9]* +pickups? *$";
    let of = |name: String| all.iter().find(|section| section.header == name).map(|section| object(section, all));
    let list =
        |words: &[&str]| json!({ "type": "array", "items": { "enum": words }, "minItems": 1, "uniqueItems": true });
    let mut schema = match key.takes {
        Takes::Text => json!({ "type": "string", "minLength": 1 }),
        Takes::Texts => json!({ "type": "array", "items": { "type": "string", "minLength": 1 } }),
        Takes::Size => json!({ "type": "string", "pattern": SIZE, "examples": ["10 GiB"] }),
        Takes::Span => json!({ "type": "string", "pattern": SPAN, "examples": ["72h", "90 days"] }),
        Takes::Expiry => json!({
            "anyOf": [{ "type": "string", "pattern": SPAN }, { "type": "string", "pattern": EXPIRY }, { "type": "string", "pattern": "^[a-z][a-z0-9-]*$" }],
            "examples": ["72h", "72h or after 1 pickup", "never"],
        }),
        Takes::Keys => json!({ "type": "array", "items": { "anyOf": [
            { "type": "string", "minLength": 1 }, Value::Object(object(&KEY, all)),
        ] } }),
        Takes::Count => json!({ "type": "integer", "minimum": 1 }),
        Takes::Flag => json!({ "type": "boolean" }),
        // TOML's dates are texts to a schema.
        Takes::Moment => json!({ "type": "string", "anyOf": [{ "format": "date" }, { "format": "date-time" }] }),
        Takes::Word(words) => json!({ "enum": words }),
        Takes::Words(words) => list(words),
        Takes::Ways(words) => {
            json!({ "anyOf": [list(words), { "type": "array", "items": list(words), "minItems": 1 }] })
        }
        Takes::Table => Value::Object(of(format!("[{}]", key.name)).unwrap_or_default()),
        Takes::Tables => json!({ "type": "array", "items": of(format!("[[{}]]", key.name)).unwrap_or_default() }),
    };
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".to_owned(), json!(key.says));
        if !key.default.starts_with('(') {
            schema.insert("default".to_owned(), default(key));
        }
    }
    schema
}

/// The table's default as the value it is.
fn default(key: &Key) -> Value {
    let text = || Value::from(key.default);
    match key.takes {
        Takes::Texts | Takes::Words(_) | Takes::Ways(_) | Takes::Count | Takes::Flag => {
            serde_json::from_str(key.default).unwrap_or_else(|_| text())
        }
        _ => text(),
    }
}
