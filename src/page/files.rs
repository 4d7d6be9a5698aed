//! The files of the page, which are in the program. They say nothing of the node, so everyone who reaches it gets them.

use std::sync::LazyLock;

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use ocipfs_oci::Digest;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Nothing from elsewhere, nothing inline, and no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

macro_rules! file {
    ($path:literal, $file:literal, $media_type:expr) => {
        File { path: $path, media_type: $media_type, bytes: include_bytes!(concat!("static/", $file)) }
    };
}

/// A path, and what is there.
pub struct File {
    path: &'static str,
    media_type: &'static str,
    pub bytes: &'static [u8],
}

/// All files.
pub static FILES: [File; 9] = [
    file!("/", "index.html", HTML),
    file!("/page/style.css", "style.css", CSS),
    file!("/page/icon.svg", "icon.svg", SVG),
    file!("/page/main.js", "main.js", SCRIPT),
    file!("/page/dom.js", "dom.js", SCRIPT),
    file!("/page/data.js", "data.js", SCRIPT),
    file!("/page/repositories.js", "repositories.js", SCRIPT),
    file!("/page/swarm.js", "swarm.js", SCRIPT),
    file!("/page/store.js", "store.js", SCRIPT),
];

/// One for each file: a browser asks again each time, and is told that it has the file.
static TAGS: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
    let tag = |file: &File| HeaderValue::from_str(&Digest::sha256_of(file.bytes).etag());
    FILES.iter().map(|file| tag(file).unwrap_or(HeaderValue::from_static("\"\""))).collect()
});

/// Returns a route for each file.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().enumerate().fold(Router::new(), |router, (index, file)| {
        router.route(file.path, get(async move |headers: HeaderMap| serve(index, file, &headers)))
    })
}

fn serve(index: usize, file: &'static File, headers: &HeaderMap) -> Response {
    let tag = TAGS[index].clone();
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| {
        let (known, tag) = (known.to_str().unwrap_or_default(), tag.to_str().unwrap_or("-"));
        known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)
    });
    let told: [(HeaderName, HeaderValue); 7] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(file.media_type)),
        (header::ETAG, tag),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    ];
    match is_known {
        true => (StatusCode::NOT_MODIFIED, told).into_response(),
        false => (told, Bytes::from_static(file.bytes)).into_response(),
    }
}
