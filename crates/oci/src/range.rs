//! Byte ranges of HTTP: `Range`, `Content-Range` and `If-Range` (RFC 9110, sections 13.1.5 and 14).

use std::ops::Range;

/// One range of bytes, as requested by a `Range` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByteRange(Spec);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Spec {
    /// From the first to the last position, inclusive.
    Between(u64, u64),
    /// From a position to the end.
    From(u64),
    /// The last bytes, this many.
    Suffix(u64),
}

/// A range contains no byte of the content, which is a 416.
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

impl ByteRange {
    /// Parses a `Range` header. `None` means that the header is ignored and the whole content is sent.
    ///
    /// Other units, malformed headers and multiple ranges are ignored, as RFC 9110, section 14.2 allows.
    pub fn parse(header: &str) -> Option<Self> {
        let (unit, range) = header.trim().split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = range.trim().split_once('-')?;
        let spec = match (first, last) {
            ("", length) => Spec::Suffix(position(length)?),
            (first, "") => Spec::From(position(first)?),
            (first, last) => Spec::Between(position(first)?, position(last)?),
        };
        Some(Self(spec))
    }

    /// Returns the bytes of this range in a content of `size` bytes, at least one.
    ///
    /// A range of empty content is unsatisfiable, since no `Content-Range` could express it.
    pub fn resolve(&self, size: u64) -> Result<Range<u64>, Unsatisfiable> {
        let range = match self.0 {
            // Not `(last + 1).min(size)`, which would overflow.
            // Section 14.1.1 calls an end before the start invalid; the answer is 416 then (section 15.5.17).
            Spec::Between(first, last) if last < first => return Err(Unsatisfiable { size }),
            Spec::Between(first, last) if last < size => first..last + 1,
            Spec::Between(first, _) | Spec::From(first) => first..size,
            Spec::Suffix(length) => size.saturating_sub(length)..size,
        };
        if range.is_empty() { Err(Unsatisfiable { size }) } else { Ok(range) }
    }
}

/// Parses a position; one too large for 64 bits becomes the largest, which is beyond the end anyway.
fn position(digits: &str) -> Option<u64> {
    let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    decimal.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Returns the `Content-Range` of a 206, such as `bytes 0-9/100`, for a range from [`ByteRange::resolve`].
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
