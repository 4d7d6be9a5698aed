//! Byte ranges of HTTP: `Range`, `Content-Range` and `If-Range` (RFC 9110, sections 13.1.5 and 14).

use std::ops::Range;

/// Maximum number of ranges in one request.
pub const MAX_RANGES: usize = 1_000;

/// The byte ranges that a `Range` header requests, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ByteRanges(Vec<Spec>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Spec {
    /// From the first to the last position, inclusive.
    Between(u64, u64),
    /// From a position to the end.
    From(u64),
    /// The last bytes, this many.
    Suffix(u64),
}

/// No requested range contains a byte of the content, which is a 416.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unsatisfiable range: expected a start below the size of {size} bytes")]
pub struct Unsatisfiable {
    size: u64,
}

impl Unsatisfiable {
    /// Returns the `Content-Range` of the 416, such as `bytes */100`.
    pub fn content_range(&self) -> String {
        format!("bytes */{}", self.size)
    }
}

/// A request has more than [`MAX_RANGES`] ranges, which is a 400: clients ask for fewer then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many ranges: the limit is {MAX_RANGES} in one request")]
pub struct TooManyRanges;

impl ByteRanges {
    /// Parses a `Range` header. `None` means that the header is ignored and the whole content is sent.
    ///
    /// Other units and malformed headers are ignored, as RFC 9110, section 14.2 allows. Empty elements of the list are
    /// ignored (section 5.6.1.2), but count.
    pub fn parse(header: &str) -> Result<Option<Self>, TooManyRanges> {
        let Some((unit, set)) = header.trim().split_once('=') else { return Ok(None) };
        if !unit.eq_ignore_ascii_case("bytes") {
            return Ok(None);
        }
        let mut specs = Vec::new();
        for (number, text) in set.split(',').enumerate() {
            if number == MAX_RANGES {
                return Err(TooManyRanges);
            }
            match text.trim_matches([' ', '\t']) {
                "" => {}
                text => match Spec::parse(text) {
                    Some(spec) => specs.push(spec),
                    None => return Ok(None),
                },
            }
        }
        Ok((!specs.is_empty()).then_some(Self(specs)))
    }

    /// Returns the ranges in a content of `size` bytes: at least one, none of them empty, no two overlapping.
    ///
    /// They are in the order of the request, without those outside the content. Overlapping ranges become one, in the
    /// place of the first of them, so that no byte is sent twice. Ranges that only touch, or have a small gap between
    /// them, are left apart: containers/storage reads as many parts as it requested, in that order.
    pub fn resolve(&self, size: u64) -> Result<Vec<Range<u64>>, Unsatisfiable> {
        let mut ranges = Vec::with_capacity(self.0.len());
        for (number, spec) in self.0.iter().enumerate() {
            // Section 14.1.1 calls an end before the start invalid, and the whole set with it.
            let range = spec.resolve(size).ok_or(Unsatisfiable { size })?;
            ranges.extend(Some((range, number)).filter(|(range, _)| !range.is_empty()));
        }
        ranges.sort_unstable_by_key(|(range, _)| range.start);
        let mut joined: Vec<(Range<u64>, usize)> = Vec::with_capacity(ranges.len());
        for (range, number) in ranges {
            match joined.last_mut().filter(|(last, _)| range.start < last.end) {
                Some((last, first)) => {
                    last.end = last.end.max(range.end);
                    *first = number.min(*first);
                }
                None => joined.push((range, number)),
            }
        }
        joined.sort_unstable_by_key(|(_, number)| *number);
        match joined.is_empty() {
            true => Err(Unsatisfiable { size }),
            false => Ok(joined.into_iter().map(|(range, _)| range).collect()),
        }
    }
}

impl Spec {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        Some(match (first, last) {
            ("", length) => Self::Suffix(position(length)?),
            (first, "") => Self::From(position(first)?),
            (first, last) => Self::Between(position(first)?, position(last)?),
        })
    }

    /// Returns the bytes in a content of `size` bytes: an empty range if it has none of them, none if the range is invalid.
    fn resolve(self, size: u64) -> Option<Range<u64>> {
        Some(match self {
            Self::Between(first, last) if last < first => return None,
            // Not `(last + 1).min(size)`, which would overflow.
            Self::Between(first, last) if last < size => first..last + 1,
            Self::Between(first, _) | Self::From(first) => first..size,
            Self::Suffix(length) => size.saturating_sub(length)..size,
        })
    }
}

/// Parses a position; one too large for 64 bits becomes the largest, which is beyond the end anyway.
fn position(digits: &str) -> Option<u64> {
    let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    decimal.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Returns the `Content-Range` of a 206, such as `bytes 0-9/100`, for a range from [`ByteRanges::resolve`].
pub fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

/// Returns whether a `Range` applies with this `If-Range`, for content with this entity tag.
///
/// The comparison is strong, so a weak tag never matches; nor does a date, since blobs have none.
pub fn if_range_holds(if_range: Option<&str>, etag: &str) -> bool {
    if_range.is_none_or(|validator| {
        let validator = validator.trim();
        validator.starts_with('"') && validator == etag
    })
}

#[cfg(test)]
mod tests;
