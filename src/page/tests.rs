use std::collections::HashMap;

use axum::{
    Extension, Router,
    body::Body,
    http::{Request, Response, StatusCode, header},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower_service::Service;

use super::{Page, files::FILES, session::PageSession};
use crate::http::page_visitor::PageVisitor;

const MAX_PAGE_BYTES: usize = 150_000;

async fn get(router: &Router, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn json_of(answer: Response<Body>) -> Value {
    serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

fn shown_to(visitor: PageVisitor) -> Router {
    Page::files().merge(Page::default().data().layer(Extension(visitor)))
}

#[test]
fn the_page_is_small() {
    let bytes: usize = FILES.iter().map(|file| file.bytes.len()).sum();
    assert!(bytes <= MAX_PAGE_BYTES, "{bytes} bytes");
}

#[test]
fn the_page_has_no_inline_script_or_style_and_no_address_elsewhere() {
    for file in &FILES {
        let text = std::str::from_utf8(file.bytes).unwrap();
        for wrong in ["<style", " style=\"", " onclick", "javascript:", "eval(", "innerHTML", "https://"] {
            assert!(!text.contains(wrong), "{wrong} in {}", text.lines().next().unwrap_or_default());
        }
        // The name of a namespace is not an address.
        let namespace = "http://www.w3.org/2000/svg";
        assert!(!text.replace(namespace, "").contains("http://"));
    }
}

#[tokio::test]
async fn files_have_a_strict_policy_and_an_etag_that_a_browser_revalidates() {
    let router = shown_to(PageVisitor::new(|_| false));
    let answer = get(&router, "/", &[]).await;
    let header = |name: header::HeaderName| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(answer.status(), StatusCode::OK);
    let policy = header(header::CONTENT_SECURITY_POLICY);
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"));
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    let tag = header(header::ETAG);
    let again = get(&router, "/", &[("if-none-match", &tag)]).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(get(&router, "/", &[("if-none-match", "\"x\"")]).await.status(), StatusCode::OK);
    assert_eq!(get(&router, "/page/none.js", &[]).await.status(), StatusCode::NOT_FOUND);
    let post = Request::post("/").body(Body::empty()).unwrap();
    assert_eq!(router.clone().call(post).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn data_of_a_node_that_is_starting_is_unavailable_and_not_stored() {
    let answer = get(&shown_to(PageVisitor::operator()), "/page/data/swarm.json", &[]).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(json_of(answer).await["error"], "the node is starting");
}

#[tokio::test]
async fn node_data_is_forbidden_to_visitors_and_a_challenge_to_those_who_may_log_in() {
    for path in ["swarm", "status", "store", "garbage", "images"] {
        let path = format!("/page/data/{path}.json");
        let answer = get(&shown_to(PageVisitor::new(|_| true)), &path, &[]).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
        let visitor = PageVisitor { may_log_in: true, ..PageVisitor::new(|_| true) };
        let answer = get(&shown_to(visitor), &path, &[]).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        let challenge = answer.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.starts_with("Basic "), "{challenge}");
    }
}

#[tokio::test]
async fn a_repository_that_may_not_be_pulled_is_not_looked_up() {
    let router = shown_to(PageVisitor::new(|name| name == "open"));
    for path in ["tags.json?name=secret", "image.json?name=secret&reference=1"] {
        let answer = get(&router, &format!("/page/data/{path}"), &[]).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
    }
    let open = get(&router, "/page/data/tags.json?name=open", &[]).await;
    assert_eq!(open.status(), StatusCode::SERVICE_UNAVAILABLE);
    let wrong = get(&router, "/page/data/image.json?name=open&reference=!", &[]).await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_login_is_a_challenge_and_then_leads_back_to_the_page() {
    let visitor = PageVisitor { may_log_in: true, ..PageVisitor::new(|_| true) };
    let answer = get(&shown_to(visitor), "/page/data/login", &[]).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let answer = get(&shown_to(PageVisitor::operator()), "/page/data/login", &[]).await;
    assert_eq!(
        (answer.status(), &answer.headers()[header::LOCATION]),
        (StatusCode::SEE_OTHER, &"/".parse().unwrap())
    );
}

#[test]
fn a_session_tells_of_the_node_only_to_those_who_see_it() {
    let session =
        |visitor: &PageVisitor| serde_json::to_value(PageSession::of(visitor, "localhost:5050")).unwrap();
    let visitor = PageVisitor { may_log_in: true, ..PageVisitor::new(|_| true) };
    assert_eq!(
        session(&visitor),
        json!({ "user": null, "login": "/page/data/login", "pull_from": null, "node": null })
    );
    let node = json!({ "version": env!("CARGO_PKG_VERSION") });
    assert_eq!(
        session(&PageVisitor::operator()),
        json!({ "user": null, "login": null, "pull_from": "localhost:5050", "node": node })
    );
}

/// Returns the colors of the light scheme, or of the dark one, by name.
fn colors(css: &str) -> HashMap<&str, [f64; 3]> {
    let mut all = HashMap::new();
    for line in css.lines() {
        let named = line.trim().strip_prefix("--").and_then(|line| line.split_once(": #"));
        let Some((name, value)) = named else { continue };
        let value = u32::from_str_radix(value.trim_end_matches(';'), 16).unwrap();
        all.insert(name, [16, 8, 0].map(|shift| f64::from((value >> shift) & 0xff) / 255.0));
    }
    all
}

/// The contrast ratio of two colors (WCAG 2, section 1.4.3).
fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
    let linear = |part: f64| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) };
    let luminance = |[red, green, blue]: [f64; 3]| {
        0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue) + 0.05
    };
    let (one, other) = (luminance(one), luminance(other));
    (one / other).max(other / one)
}

#[test]
fn text_has_enough_contrast_on_every_ground_in_light_and_dark() {
    let css = FILES.iter().map(|file| std::str::from_utf8(file.bytes).unwrap());
    let css = css.into_iter().find(|text| text.contains(":root")).unwrap();
    let (light, dark) = css.split_once("@media (prefers-color-scheme: dark)").unwrap();
    for (scheme, css) in [("light", light), ("dark", dark)] {
        let colors = colors(css);
        for text in ["text", "quiet", "accent", "good", "warn", "bad", "in", "out"] {
            for ground in ["ground", "card", "sunk", "accent-soft"] {
                let ratio = contrast(colors[text], colors[ground]);
                assert!(ratio >= 4.5, "{scheme}: {text} on {ground} has {ratio:.2}");
            }
        }
    }
}
