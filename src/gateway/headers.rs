//! The headers of answers.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, IntoResponseParts, Response, ResponseParts},
};
use ocipfs_node::{Cid, inline_text};
use ocipfs_oci::Digest;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Visibility,
    request::{CAR_TYPE, GatewayRequest, RAW_TYPE},
};
use crate::content::car::{CarOptions, CarScope, SharedPath};

/// Hex digits of the hash in the tag of a CAR.
const TAG_DIGITS: usize = 16;
/// Characters of a file name that a client chooses.
const MAX_FILE_NAME: usize = 200;
/// A year, as the specification states it.
const MAX_AGE: u32 = 29_030_400;

/// The headers of one answer.
pub struct Headers {
    /// The entity tag.
    pub etag: String,
    others: Vec<(HeaderName, String)>,
}

impl Headers {
    /// Those of a block.
    pub fn raw(request: &GatewayRequest, length: u64, visibility: Visibility) -> Self {
        let cid = root_text(request);
        let mut others = common(request, "raw", &[], &format!("{cid}.bin"), visibility);
        others.extend([
            (header::CONTENT_TYPE, RAW_TYPE.into()),
            (header::CONTENT_LENGTH, length.to_string()),
            (ROOTS, cid.clone()),
        ]);
        Self { etag: format!("\"{cid}.raw\""), others }
    }

    /// Those of a CAR.
    pub fn car(
        request: &GatewayRequest,
        options: CarOptions,
        path: &SharedPath,
        visibility: Visibility,
    ) -> Self {
        let dups = if options.duplicates { "y" } else { "n" };
        let parameters = [("car-version", "1"), ("car-order", "dfs"), ("car-dups", dups)];
        let end = path.end.cid;
        let mut others = common(request, "car", &parameters, &format!("{end}.car"), visibility);
        let roots: Vec<String> = path.roots.iter().map(Cid::to_string).collect();
        others.extend([
            (header::CONTENT_TYPE, format!("{CAR_TYPE}; version=1; order=dfs; dups={dups}")),
            (ROOTS, roots.join(",")),
        ]);
        let hash = Digest::sha256_of(format!("{} {options:?}", request.at).as_bytes()).hex();
        let scope = match options.scope {
            CarScope::Block => "block",
            CarScope::Entity(_) => "entity",
            CarScope::All => "all",
        };
        // Weak: a stream may have been broken off.
        Self { etag: format!("W/\"{end}.car.{scope}.{}\"", &hash[..TAG_DIGITS]), others }
    }

    /// The answer where the client has this.
    pub fn not_modified(self) -> Response {
        let told = self.others.into_iter().filter(|(name, _)| *name == header::CACHE_CONTROL).collect();
        (StatusCode::NOT_MODIFIED, Self { etag: self.etag, others: told }, ()).into_response()
    }
}

const ROOTS: HeaderName = HeaderName::from_static("x-ipfs-roots");
const PATH: HeaderName = HeaderName::from_static("x-ipfs-path");

impl IntoResponseParts for Headers {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        let headers: &mut HeaderMap = parts.headers_mut();
        for (name, value) in self.others.into_iter().chain([(header::ETAG, self.etag)]) {
            // They are made of ASCII.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        Ok(parts)
    }
}

fn root_text(request: &GatewayRequest) -> String {
    match request.at.inline_root() {
        Some(block) => inline_text(&block),
        None => request.at.root().to_string(),
    }
}

fn common(
    request: &GatewayRequest,
    format: &str,
    parameters: &[(&str, &str)],
    file_name: &str,
    visibility: Visibility,
) -> Vec<(HeaderName, String)> {
    let caches = match visibility {
        Visibility::Public => "public",
        Visibility::Private => "private",
    };
    let mut headers = vec![
        (header::CACHE_CONTROL, format!("{caches}, max-age={MAX_AGE}, immutable")),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".into()),
        (header::ACCEPT_RANGES, "none".into()),
        (header::CONTENT_DISPOSITION, disposition(request, file_name)),
        (PATH, request.path.clone()),
    ];
    if !request.is_in_url {
        headers.push((header::VARY, "Accept".into()));
        headers.push((header::CONTENT_LOCATION, location(request, format, parameters)));
    }
    headers
}

/// The URL of the same answer without the header `Accept`.
fn location(request: &GatewayRequest, format: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("format", format);
    query.extend_pairs(
        request.query.iter().filter(|(name, _)| !parameters.iter().any(|(set, _)| name == set)),
    );
    query.extend_pairs(parameters);
    format!("{}?{}", request.path, query.finish())
}

/// What browsers save instead of showing it (RFC 6266).
fn disposition(request: &GatewayRequest, file_name: &str) -> String {
    let chosen = request.query.iter().find(|(name, _)| name == "filename").map(|(_, value)| value);
    let Some(chosen) = chosen.filter(|chosen| !chosen.is_empty()) else {
        return format!("attachment; filename=\"{file_name}\"");
    };
    let chosen: String = chosen.chars().take(MAX_FILE_NAME).collect();
    let is_plain = |c: char| (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\' | '/');
    let plain: String = chosen.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    match plain == chosen {
        true => format!("attachment; filename=\"{plain}\""),
        false => {
            let encoded = utf8_percent_encode(&chosen, NON_ALPHANUMERIC);
            format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
        }
    }
}
