//! DAG-CBOR as DAG-JSON.

use std::fmt::Write;

use super::reader::{Head, Reader};

/// Writes a value of DAG-CBOR as DAG-JSON, as Kubo does: compact, with sorted keys.
///
/// # Errors
/// Fails if the value is invalid.
pub fn dag_json(value: &[u8]) -> Result<String, String> {
    let (mut reader, mut json) = (Reader::new(value), String::new());
    write_value(&mut reader, &mut json)?;
    reader.end()?;
    Ok(json)
}

fn write_value(reader: &mut Reader<'_>, json: &mut String) -> Result<(), String> {
    // Writing to a text cannot fail.
    let _ = match reader.head()? {
        Head::Number(number) => write!(json, "{number}"),
        Head::Negative(below) => write!(json, "{}", -1 - i128::from(below)),
        Head::Float(number) => write!(json, "{number:?}"),
        Head::Bytes(bytes) => write!(json, r#"{{"/":{{"bytes":"{}"}}}}"#, base64(bytes)),
        Head::Text(text) => {
            write_text(text, json);
            Ok(())
        }
        Head::Link(cid) => write!(json, r#"{{"/":"{cid}"}}"#),
        Head::Bool(value) => write!(json, "{value}"),
        Head::Null => write!(json, "null"),
        Head::List(count) => {
            json.push('[');
            let mut is_first = true;
            reader.each(count, |reader| {
                if !std::mem::take(&mut is_first) {
                    json.push(',');
                }
                write_value(reader, json)
            })?;
            json.push(']');
            Ok(())
        }
        Head::Map(count) => return write_map(reader, count, json),
    };
    Ok(())
}

fn write_map(reader: &mut Reader<'_>, count: usize, json: &mut String) -> Result<(), String> {
    let mut entries = Vec::new();
    reader.each(count, |reader| {
        let key = reader.key()?;
        let mut value = String::new();
        write_value(reader, &mut value)?;
        entries.push((key, value));
        Ok(())
    })?;
    entries.sort();
    json.push('{');
    for (number, (key, value)) in entries.into_iter().enumerate() {
        if number > 0 {
            json.push(',');
        }
        write_text(key, json);
        json.push(':');
        json.push_str(&value);
    }
    json.push('}');
    Ok(())
}

fn write_text(text: &str, json: &mut String) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            control if control < ' ' => {
                let _ = write!(json, "\\u{:04x}", u32::from(control));
            }
            other => json.push(other),
        }
    }
    json.push('"');
}

/// Without padding, as DAG-JSON has it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for digit in 0..=group.len() {
            text.push(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63].into());
        }
    }
    text
}
