//! What the hook reads: one JSON object (docs/alarms.md, "What the hook reads"; config/schema/notice.schema.json). Nothing that does
//! not apply is in it, and no name where names are hidden.

use serde_json::{Map, Value, json};

use crate::ledger::{About, Alarm, Delivered, Notice};
use crate::shown::{self, Shown};

/// The notice as the hook is given it, with a line's end. `attempt` begins with 1.
pub fn text(notice: &Notice, server: &str, attempt: u32) -> String {
    let mut object = Map::new();
    object.insert("v".to_owned(), json!(1));
    object.insert("id".to_owned(), json!(notice.id.to_string()));
    object.insert("notice".to_owned(), json!(notice.about.word()));
    object.insert("at".to_owned(), json!(notice.at.rfc3339()));
    object.insert("server".to_owned(), json!(server));
    object.insert("attempt".to_owned(), json!(attempt));
    match &notice.about {
        About::Raised(about) => drop(object.insert("alarm".to_owned(), alarm(about))),
        About::Cleared(about, why) => {
            object.insert("alarm".to_owned(), alarm(about));
            object.insert("because".to_owned(), json!(why));
        }
        About::Received(of) | About::PickedUp(of) | About::Expired(of) => {
            object.insert("delivery".to_owned(), delivery(of));
        }
        About::Test => {}
    }
    format!("{}\n", Value::Object(object))
}

/// Also what `sealdrop alarms --json` has of one.
pub fn alarm(alarm: &Alarm) -> Value {
    let mut object = Map::new();
    object.insert("cause".to_owned(), json!(alarm.cause));
    object.insert("kind".to_owned(), json!(alarm.kind.word()));
    object.insert("since".to_owned(), json!(alarm.since.rfc3339()));
    object.insert("say".to_owned(), json!(shown::about(&alarm.say, alarm.path.as_ref())));
    object.insert("hint".to_owned(), json!(alarm.hint));
    add(&mut object, "user", alarm.user.as_ref());
    add(&mut object, "address", alarm.address.as_ref());
    add(&mut object, "path", alarm.path.as_ref().map(Shown).as_ref());
    add(&mut object, "drop", alarm.drop.as_ref());
    Value::Object(object)
}

fn delivery(of: &Delivered) -> Value {
    let mut object = Map::new();
    add(&mut object, "user", of.user.as_ref());
    add(&mut object, "path", of.path.as_ref().map(Shown).as_ref());
    add(&mut object, "drop", of.drop.as_ref());
    add(&mut object, "receipt", of.receipt.as_ref());
    if let Some(bytes) = of.bytes {
        object.insert("bytes".to_owned(), json!(bytes));
    }
    add(&mut object, "sha256", of.sha256.as_ref());
    add(&mut object, "detail", of.detail.as_ref());
    Value::Object(object)
}

fn add(object: &mut Map<String, Value>, key: &str, value: Option<&impl ToString>) {
    if let Some(value) = value {
        object.insert(key.to_owned(), json!(value.to_string()));
    }
}
