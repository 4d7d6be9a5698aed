//! `entity-bytes=from:to`.

use super::error::Error;
use crate::content::car::ByteSpan;

/// Parses the parameter.
pub fn parse(text: &str) -> Result<ByteSpan, Error> {
    let invalid = |why: &str| {
        Error::Invalid(format!("invalid entity-bytes {:?}: {why}", text.chars().take(60).collect::<String>()))
    };
    let number =
        |text: &str| text.parse::<i64>().map_err(|_| invalid("expected FROM:TO, as in 0:1023 or -1024:*"));
    let (from, to) =
        text.split_once(':').ok_or_else(|| invalid("expected FROM:TO, as in 0:1023 or -1024:*"))?;
    let from = number(from)?;
    let to = if to == "*" { None } else { Some(number(to)?) };
    match to {
        // Of one sign both count from the same end.
        Some(to) if to < from && (to < 0) == (from < 0) => Err(invalid("it ends before it begins")),
        _ => Ok(ByteSpan { from, to }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_bytes_are_parsed_and_invalid_ones_rejected() {
        for (text, from, to) in [
            ("0:*", 0, None),
            ("0:0", 0, Some(0)),
            ("5:10", 5, Some(10)),
            ("-1024:*", -1024, None),
            ("499:-1000", 499, Some(-1000)),
            ("-10:-5", -10, Some(-5)),
            ("-10:5", -10, Some(5)),
            ("0:9223372036854775807", 0, Some(i64::MAX)),
        ] {
            assert_eq!(parse(text).unwrap(), ByteSpan { from, to }, "{text}");
        }
        for text in [
            "",
            ":",
            "0",
            "0:",
            ":5",
            "*:5",
            "a:b",
            "0:5:6",
            "10:5",
            "-5:-10",
            "1.5:2",
            "0x1:2",
            " 0:1",
            "0:9223372036854775808",
            "99999999999999999999999999:*",
        ] {
            assert!(matches!(parse(text), Err(Error::Invalid(_))), "{text}");
        }
    }

    #[test]
    fn entity_bytes_are_resolved_within_a_file() {
        for (text, size, bytes) in [
            ("0:*", 100, Some(0..100)),
            ("0:*", 0, Some(0..0)),
            ("0:99", 100, Some(0..100)),
            ("0:1000", 100, Some(0..100)),
            ("99:99", 100, Some(99..100)),
            ("-10:*", 100, Some(90..100)),
            ("-1000:*", 100, Some(0..100)),
            ("-1:-1", 100, Some(99..100)),
            ("4:-10", 100, Some(4..91)),
            ("95:-10", 100, Some(95..95)),
            ("-10:5", 100, Some(90..90)),
            ("0:9223372036854775807", 100, Some(0..100)),
            ("100:*", 100, None),
            ("100:200", 100, None),
            ("1:*", 0, None),
            ("0:-101", 100, None),
            ("0:-1", 0, None),
        ] {
            assert_eq!(parse(text).unwrap().resolve(size).ok(), bytes, "{text} of {size}");
        }
    }
}
