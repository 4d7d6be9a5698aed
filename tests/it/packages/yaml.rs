//! YAML as JSON values.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// Reads all documents of a text.
///
/// # Panics
/// Panics if it is not YAML, a mapping has a key twice, or an alias is used.
pub fn documents(text: &str) -> Vec<Value> {
    let events = Parser::new_from_str(text).map(|event| event.expect("YAML").0);
    let mut events = events.filter(|event| !matches!(event, Event::Nothing | Event::StreamStart));
    let mut documents = Vec::new();
    while let Some(event) = events.next() {
        if matches!(event, Event::DocumentStart(_)) {
            let first = events.next().expect("a document");
            documents.push(value(first, &mut events));
        }
    }
    // One that only has comments is null.
    documents.retain(|document| !document.is_null());
    documents
}

fn value<'a>(event: Event<'a>, events: &mut impl Iterator<Item = Event<'a>>) -> Value {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, ..) => plain(&text),
        Event::Scalar(text, ..) => Value::String(text.into_owned()),
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            while let Some(next) = events.next().filter(|next| *next != Event::SequenceEnd) {
                items.push(value(next, events));
            }
            Value::Array(items)
        }
        Event::MappingStart(..) => {
            let mut entries = Map::new();
            while let Some(key) = events.next().filter(|next| *next != Event::MappingEnd) {
                let Event::Scalar(key, ..) = key else { panic!("a key that is not text: {key:?}") };
                let item = events.next().expect("a value");
                let before = entries.insert(key.to_string(), value(item, events));
                assert!(before.is_none(), "{key} is there twice");
            }
            Value::Object(entries)
        }
        other => panic!("unexpected in YAML: {other:?}"),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "null" | "~" => Value::Null,
        "true" => true.into(),
        "false" => false.into(),
        _ => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
    }
}
