//! The query of a request, and the pages that `n` and `last` ask for.

use axum::http::{HeaderName, header};

/// Entries of a page where the client names no number, or a larger one.
const MAX_PAGE: usize = 1_000;

/// The pairs of a query, decoded.
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: Option<&str>) -> Self {
        Self(form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// The first value of a key.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// All values of a key.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The entry after which a page begins.
    pub fn last(&self) -> &str {
        self.value("last").unwrap_or_default()
    }

    /// Returns the page size; a value that is not a number is ignored.
    pub fn most(&self) -> Option<usize> {
        self.value("n").and_then(|n| n.parse().ok())
    }

    /// How many entries a page of a list has.
    fn page_size(&self) -> usize {
        self.most().map_or(MAX_PAGE, |n| n.min(MAX_PAGE))
    }

    /// How many entries to read, so that it shows whether there are more.
    pub fn to_read(&self) -> usize {
        self.page_size() + 1
    }

    /// Cuts entries to a page, and links to the next page if there is one.
    pub fn page<T: ToString>(&self, path: &str, entries: &mut Vec<T>) -> Option<[(HeaderName, String); 1]> {
        let most = self.page_size();
        if entries.len() <= most {
            return None;
        }
        entries.truncate(most);
        entries.last().map(|last| link(path, &[("n", &most.to_string()), ("last", &last.to_string())]))
    }
}

/// The `Link` to the next page (RFC 8288).
pub fn link(path: &str, query: &[(&str, &str)]) -> [(HeaderName, String); 1] {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    [(header::LINK, format!("<{path}?{query}>; rel=\"next\""))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pagination_parameters_are_parsed_and_entries_split_into_pages() {
        for (query, read, page, next) in [
            ("", 1001, 3, None),
            ("ns=example.org", 1001, 3, None),
            ("n=2", 3, 2, Some("</x?n=2&last=b>; rel=\"next\"")),
            ("n=3", 4, 3, None),
            ("n=0", 1, 0, None),
            ("n=x", 1001, 3, None),
            ("n=1001", 1001, 3, None),
            ("n=18446744073709551615", 1001, 3, None),
        ] {
            let query = Query::parse(Some(query));
            let mut entries: Vec<&str> = ["a", "b", "c"].into_iter().take(query.to_read()).collect();
            let link = query.page("/x", &mut entries);
            assert_eq!((query.to_read(), entries.len()), (read, page));
            assert_eq!(link.map(|[(_, link)]| link), next.map(String::from));
        }
        for query in ["", "n=5000"] {
            let mut entries: Vec<usize> = (0..1001).collect();
            let link = Query::parse(Some(query)).page("/x", &mut entries);
            assert_eq!(link.map(|[(_, link)]| link).as_deref(), Some("</x?n=1000&last=999>; rel=\"next\""));
            assert_eq!(entries.len(), 1000);
        }
        let query = Query::parse(Some("digest=sha256%3A00&tag=a&tag=b"));
        assert_eq!(query.value("digest"), Some("sha256:00"));
        assert!(query.values("tag").eq(["a", "b"]) && query.value("last").is_none());
    }
}
