//! The `Accept` header (RFC 9110, section 12.5.1), as far as the gateway has something to choose.

/// Entries that are read.
const MAX_ENTRIES: usize = 32;

/// One entry of the header.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptedForms {
    /// The media type, in lower case.
    pub media_type: String,
    /// Its parameters, names in lower case, without the weight.
    pub parameters: Vec<(String, String)>,
    weight: f32,
}

impl AcceptedForms {
    /// Returns a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Parses a header, the preferred entries first; entries that are excluded with a weight of 0 are left out.
pub fn parse(header: &str) -> Vec<AcceptedForms> {
    let mut all: Vec<AcceptedForms> = header.split(',').take(MAX_ENTRIES).filter_map(entry).collect();
    all.sort_by(|one, other| other.weight.total_cmp(&one.weight));
    all
}

fn entry(text: &str) -> Option<AcceptedForms> {
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next().filter(|media_type| !media_type.is_empty())?.to_ascii_lowercase();
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()))
    };
    let (weights, parameters): (Vec<_>, Vec<_>) = parts.filter_map(pair).partition(|(name, _)| name == "q");
    let weight = weights.first().and_then(|(_, weight)| weight.parse::<f32>().ok()).unwrap_or(1.0);
    (weight > 0.0).then_some(AcceptedForms { media_type, parameters, weight })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(header: &str) -> Vec<String> {
        parse(header).into_iter().map(|accepted| accepted.media_type).collect()
    }

    #[test]
    fn accepted_types_are_sorted_by_weight_and_then_by_place() {
        assert_eq!(types("a/b"), ["a/b"]);
        assert_eq!(types("a/b;q=0.5, C/D , e/f;q=0.7"), ["c/d", "e/f", "a/b"]);
        assert_eq!(types("a/b, c/d"), ["a/b", "c/d"]);
        assert_eq!(types("a/b;q=0, c/d;q=x"), ["c/d"]);
        assert_eq!(types(" , ;q=1,"), Vec::<String>::new());
        assert!(types(&"a/b,".repeat(1000)).len() <= MAX_ENTRIES);
    }

    #[test]
    fn parameters_of_accepted_types_are_read_without_quotes() {
        let car = parse("application/vnd.ipld.car; Version=1;order=\"dfs\"; dups=y;q=0.9");
        assert_eq!(car[0].parameter("version"), Some("1"));
        assert_eq!((car[0].parameter("order"), car[0].parameter("dups")), (Some("dfs"), Some("y")));
        assert_eq!(car[0].parameter("q"), None);
    }
}
