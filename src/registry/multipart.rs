//! Several ranges of a blob in one answer: `multipart/byteranges` (RFC 9110, section 14.6).

use std::ops::Range;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use ocipfs_oci::range::content_range;
use uuid::Uuid;

/// The parts of an answer.
pub struct Multipart {
    boundary: String,
    /// The ranges, which do not overlap.
    ranges: Vec<Range<u64>>,
    /// Size of the whole blob.
    size: u64,
}

impl Multipart {
    /// Divides an answer by a boundary that no blob can be made to contain.
    pub fn new(ranges: Vec<Range<u64>>, size: u64) -> Self {
        Self { boundary: Uuid::new_v4().simple().to_string(), ranges, size }
    }

    /// Returns the `Content-Type` of the answer.
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// Returns the length of the body, in bytes.
    pub fn length(&self) -> u64 {
        let parts = self.ranges.iter().map(|range| self.head(range).len() as u64 + range.end - range.start);
        parts.sum::<u64>() + self.end().len() as u64
    }

    /// Puts the heads of the parts into `content`, which has the bytes of the ranges in their order.
    pub fn body<E>(
        self,
        content: impl Stream<Item = Result<Bytes, E>>,
    ) -> impl Stream<Item = Result<Bytes, E>> {
        let parts = self.ranges.clone().into_iter();
        let state = Some(Body { content: Box::pin(content), parts, left: 0, piece: Bytes::new() });
        stream::unfold((self, state), |(multipart, state)| async move {
            let mut body = state?;
            match body.next(&multipart).await {
                Some(Ok(bytes)) => Some((Ok(bytes), (multipart, Some(body)))),
                Some(Err(error)) => Some((Err(error), (multipart, None))),
                None if body.is_whole() => Some((Ok(multipart.end()), (multipart, None))),
                None => None,
            }
        })
    }

    fn head(&self, range: &Range<u64>) -> Bytes {
        let Self { boundary, size, .. } = self;
        let range = content_range(range, *size);
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {range}\r\n\r\n"
        );
        head.into()
    }

    fn end(&self) -> Bytes {
        format!("\r\n--{}--\r\n", self.boundary).into()
    }
}

/// A body that is being sent.
struct Body<S, P> {
    content: S,
    /// The parts that have not begun.
    parts: P,
    /// Bytes that the current part still lacks.
    left: u64,
    /// Bytes that came and were not sent.
    piece: Bytes,
}

impl<S, P, E> Body<S, P>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    P: ExactSizeIterator<Item = Range<u64>>,
{
    /// Returns the head of the next part or the next bytes of this one; none at the end of the parts or of the content.
    async fn next(&mut self, multipart: &Multipart) -> Option<Result<Bytes, E>> {
        if self.left == 0 {
            let range = self.parts.next()?;
            self.left = range.end - range.start;
            return Some(Ok(multipart.head(&range)));
        }
        while self.piece.is_empty() {
            match self.content.next().await? {
                Ok(piece) => self.piece = piece,
                Err(error) => return Some(Err(error)),
            }
        }
        let length = self.piece.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= length as u64;
        Some(Ok(self.piece.split_to(length)))
    }

    fn is_whole(&self) -> bool {
        self.left == 0 && self.parts.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, TryStreamExt};

    use super::*;

    fn sent(
        multipart: Multipart,
        pieces: Vec<Result<&'static str, &'static str>>,
    ) -> Result<String, &'static str> {
        let pieces = pieces.into_iter().map(|piece| piece.map(|text| Bytes::from_static(text.as_bytes())));
        let body = multipart.body(stream::iter(pieces)).try_collect::<Vec<Bytes>>();
        let body = body.now_or_never().expect("nothing is waited for")?;
        Ok(String::from_utf8(body.concat()).unwrap())
    }

    fn of(ranges: &[(u64, u64)]) -> Multipart {
        Multipart::new(ranges.iter().map(|(start, end)| *start..*end).collect(), 100)
    }

    #[test]
    fn a_multipart_body_has_a_head_for_each_range_however_the_bytes_come() {
        let part = |range: &str, bytes: &str| {
            format!(
                "\r\n--B\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/100\r\n\r\n{bytes}"
            )
        };
        let expected = [part("0-2", "abc"), part("99-99", "d"), part("10-11", "ef"), "\r\n--B--\r\n".into()];
        for pieces in [&["abc", "d", "ef"][..], &["a", "", "bcd", "ef"], &["abcdef"], &["abcdef", "g"]] {
            let multipart = of(&[(0, 3), (99, 100), (10, 12)]);
            let (length, boundary) = (multipart.length(), multipart.boundary.clone());
            assert_eq!(multipart.content_type(), format!("multipart/byteranges; boundary={boundary}"));
            let body = sent(multipart, pieces.iter().map(|piece| Ok(*piece)).collect()).unwrap();
            assert_eq!(body.len() as u64, length);
            assert_eq!(body.replace(&boundary, "B"), expected.concat());
        }
    }

    #[test]
    fn a_multipart_body_that_breaks_off_has_no_end() {
        let ranges = [(0, 3), (10, 12)];
        assert_eq!(sent(of(&ranges), vec![Ok("abc"), Err("stalled"), Ok("de")]), Err("stalled"));
        let cut = sent(of(&ranges), vec![Ok("abcd")]).unwrap();
        assert!(cut.ends_with('d') && (cut.len() as u64) < of(&ranges).length());
    }

    #[test]
    fn two_multipart_answers_have_different_boundaries() {
        assert_ne!(of(&[]).boundary, of(&[]).boundary);
    }
}
