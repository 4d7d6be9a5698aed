//! A strict reader of OpenMetrics 1.0 text, as far as this program writes it.
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>

use std::collections::{BTreeMap, BTreeSet};

/// The samples of a scrape, by families.
#[derive(Debug)]
pub struct Exposition(pub BTreeMap<String, Family>);

#[derive(Debug)]
pub struct Family {
    pub kind: String,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Exposition {
    /// Reads a scrape, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("it does not end in # EOF and a line feed")?;
        let mut families = BTreeMap::<String, Family>::new();
        let (mut helped, mut current) = (None, None);
        for line in body.split_terminator('\n') {
            let wrong = |why: &str| format!("{why}: {line:?}");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or_else(|| wrong("a HELP without text"))?;
                if help.trim().is_empty() || families.contains_key(name) {
                    return Err(wrong("an empty or a second HELP"));
                }
                (helped, current) = (Some(name.to_owned()), None);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("a TYPE without a type"))?;
                if helped.take().as_deref() != Some(name) || !is_name(name) {
                    return Err(wrong("a TYPE without a HELP, or a wrong name"));
                }
                if !["counter", "gauge", "histogram", "info"].contains(&kind) {
                    return Err(wrong("an unknown type"));
                }
                let family = Family { kind: kind.into(), samples: Vec::new() };
                families.insert(name.into(), family);
                current = Some(name.to_owned());
            } else {
                let name = current.as_ref().ok_or_else(|| wrong("a sample outside of its family"))?;
                let sample = sample(line).ok_or_else(|| wrong("a malformed sample"))?;
                let family = families.get_mut(name).ok_or_else(|| wrong("no family"))?;
                if !suffixes(&family.kind).iter().any(|suffix| sample.name == format!("{name}{suffix}")) {
                    return Err(wrong("a sample of another family"));
                }
                family.samples.push(sample);
            }
        }
        families.iter().try_for_each(|(name, family)| family.check(name))?;
        Ok(Self(families))
    }

    /// Returns the value of the sample of this name, which is there.
    #[track_caller]
    pub fn value(&self, name: &str) -> f64 {
        self.get(name).unwrap_or_else(|| panic!("{name} is missing"))
    }

    /// Returns the value of the first sample of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.samples().find(|sample| sample.name == name).map(|sample| sample.value)
    }

    /// Returns the sum of the samples with these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &Sample, (key, value): &(&str, &str)| {
            sample.labels.get(*key).is_some_and(|own| own == value)
        };
        let is_such = |sample: &&Sample| sample.name == name && labels.iter().all(|label| has(sample, label));
        self.samples().filter(is_such).map(|sample| sample.value).sum()
    }

    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.0.values().flat_map(|family| &family.samples)
    }

    /// Returns the names that a query may use.
    pub fn names(&self) -> BTreeSet<String> {
        let of = |(name, family): (&String, &Family)| {
            suffixes(&family.kind).iter().map(|suffix| format!("{name}{suffix}")).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }
}

impl Family {
    fn check(&self, name: &str) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for sample in &self.samples {
            if !seen.insert((&sample.name, &sample.labels)) {
                return Err(format!("{name}: two samples with the labels {:?}", sample.labels));
            }
            if self.kind != "gauge" && (sample.value < 0.0 || sample.value.is_nan()) {
                return Err(format!("{name}: {} is not a count", sample.value));
            }
        }
        if self.kind == "histogram" { self.check_buckets(name) } else { Ok(()) }
    }

    /// Buckets rise, and the last one is the count.
    fn check_buckets(&self, name: &str) -> Result<(), String> {
        let mut buckets = BTreeMap::<BTreeMap<String, String>, Vec<(f64, f64)>>::new();
        for sample in self.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
            let mut labels = sample.labels.clone();
            let end = labels.remove("le").ok_or(format!("{name}: a bucket without le"))?;
            let end = if end == "+Inf" {
                f64::INFINITY
            } else {
                end.parse().map_err(|_| format!("{name}: le {end:?}"))?
            };
            buckets.entry(labels).or_default().push((end, sample.value));
        }
        for (labels, buckets) in buckets {
            let rises = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            let count =
                self.samples.iter().find(|sample| sample.name.ends_with("_count") && sample.labels == labels);
            let last = buckets.last().filter(|(end, _)| end.is_infinite()).map(|(_, count)| *count);
            if !rises || last.is_none() || last != count.map(|count| count.value) {
                return Err(format!("{name}{labels:?}: buckets {buckets:?}, count {count:?}"));
            }
        }
        Ok(())
    }
}

fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total"],
        "histogram" => &["_bucket", "_sum", "_count"],
        "info" => &["_info"],
        _ => &[""],
    }
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    !text.is_empty() && text.chars().all(is_part) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// Reads `name{label="value",...} number`.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            let (key, after) = inner.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            if !is_name(key) || labels.insert(key.to_owned(), value).is_some() {
                return None;
            }
            match after.strip_prefix(',') {
                Some(next) => inner = next,
                None => {
                    rest = after.strip_prefix('}')?;
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ')?;
    let value = value.parse().ok().filter(|_| !value.contains(' '))?;
    is_name(name).then(|| Sample { name: name.into(), labels, value })
}

/// Returns a label's value up to its closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other @ ('"' | '\\') => other,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    None
}
