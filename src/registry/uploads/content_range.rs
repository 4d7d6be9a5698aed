use axum::http::{HeaderMap, header};

use crate::registry::error::ApiError;

/// The `Content-Range` of a part of an upload.
pub struct ContentRange<'a> {
    text: &'a str,
    first: u64,
    length: u64,
}

impl<'a> ContentRange<'a> {
    /// Returns the header of a request, if it has one.
    pub fn of(headers: &'a HeaderMap) -> Result<Option<Self>, ApiError> {
        let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default();
        let (first, last) = parse(text).ok_or_else(|| ApiError::content_range(text))?;
        Ok(Some(Self { text, first, length: last - first + 1 }))
    }

    /// Returns the offset of the part in the upload.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Refuses a body whose `Content-Length`, if it is known, is another than that of the range.
    pub fn check_length(&self, content_length: Option<u64>) -> Result<(), ApiError> {
        let Self { text, length, .. } = self;
        match content_length {
            Some(stated) if stated != *length => Err(ApiError::size(format!(
                "Content-Range {text} covers {length} bytes, but the body has another length"
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses a body of which more or fewer bytes were received than the range covers.
    pub fn check_received(&self, received: u64) -> Result<(), ApiError> {
        let Self { text, length, .. } = self;
        match received == *length {
            true => Ok(()),
            false => Err(ApiError::size(format!(
                "received {received} bytes for Content-Range {text}: query the offset of the upload and resume"
            ))),
        }
    }
}

/// Parses `<first>-<last>`, as the specification has it; some clients write `bytes <first>-<last>/<size>`.
fn parse(text: &str) -> Option<(u64, u64)> {
    let text = text.trim().trim_start_matches("bytes").trim_start_matches([' ', '=']);
    let (first, last) = text.split('/').next()?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < u64::MAX).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_range_of_an_upload_chunk_is_parsed() {
        for (text, range) in [
            ("0-0", Some((0, 0))),
            ("10-19", Some((10, 19))),
            ("bytes 10-19/100", Some((10, 19))),
            ("bytes=10-19", Some((10, 19))),
            ("19-10", None),
            ("10-", None),
            ("-5", None),
            ("0-18446744073709551615", None),
            ("a-b", None),
            ("", None),
        ] {
            assert_eq!(parse(text), range, "{text}");
        }
    }
}
