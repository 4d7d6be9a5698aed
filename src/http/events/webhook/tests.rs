use std::sync::atomic::AtomicUsize;

use axum::{Router, body::Bytes as Body, http::HeaderMap, routing::post};
use tokio::net::TcpListener;

use super::*;

const SOON: Duration = Duration::from_secs(20);

fn pushed(tag: &str) -> Event {
    let (repository, reference) = (Some("team/app".into()), Some(tag.into()));
    Event { repository, reference, digest: Some("sha256:00".into()), ..Event::now(Action::Push) }
}

fn options(url: &str, secret: Option<PathBuf>) -> WebhookOptions {
    WebhookOptions { urls: vec![url.parse().unwrap()], secret }
}

#[test]
fn a_webhook_url_is_http_and_is_logged_without_secrets() {
    for wrong in ["", "hooks.example", "ftp://hooks.example", "http://"] {
        assert!(wrong.parse::<WebhookUrl>().is_err(), "{wrong}");
    }
    for (url, logged) in [
        ("https://me:secret@hooks.example:8443/secret/a?token=secret#secret", "https://hooks.example:8443"),
        ("http://hooks.example/secret", "http://hooks.example"),
        ("http://[::1]:80/secret", "http://[::1]"),
    ] {
        let WebhookUrl(url) = url.parse().unwrap();
        assert_eq!(shown(&url), logged);
    }
    let refused = "ftp://me:secret@hooks.example/secret".parse::<WebhookUrl>().unwrap_err();
    assert!(refused.contains("ftp://...") && !refused.contains("secret"), "{refused}");
}

#[tokio::test]
async fn an_event_is_sent_again_until_it_is_taken_and_a_refused_one_is_not() {
    let tries = Arc::new(AtomicUsize::new(0));
    let (taken, mut came) = mpsc::unbounded_channel();
    let counted = tries.clone();
    let hook = async move |headers: HeaderMap, body: Body| {
        let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
        match (event["subject"].as_str().unwrap(), counted.fetch_add(1, Ordering::SeqCst)) {
            (_, 0) => StatusCode::SERVICE_UNAVAILABLE,
            (_, 2) => StatusCode::BAD_REQUEST,
            _ => {
                taken.send((headers, event)).unwrap();
                StatusCode::NO_CONTENT
            }
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, Router::new().route("/hook", post(hook))).await });
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let hooks = Webhooks::start(options(&url, None), "https://r.example".into(), &tasks, &stop).unwrap();
    hooks.queue(&Event::now(Action::Token));
    ["1", "refused", "2"].iter().for_each(|tag| hooks.queue(&pushed(tag)));
    for tag in ["1", "2"] {
        let (headers, event) = tokio::time::timeout(SOON, came.recv()).await.unwrap().unwrap();
        assert_eq!(headers["content-type"], CLOUD_EVENT);
        assert!(!headers.contains_key(SIGNATURE));
        assert_eq!((&event["specversion"], &event["type"]), (&"1.0".into(), &"io.ocipfs.push".into()));
        assert_eq!(event["source"], "https://r.example");
        assert_eq!(event["subject"], "team/app@sha256:00");
        assert_eq!(event["data"]["reference"], tag);
    }
    assert_eq!(tries.load(Ordering::SeqCst), 4);
    tasks.close();
    drop(hooks);
    tokio::time::timeout(SOON, tasks.wait()).await.expect("the task ends when the queue is dropped");
}

#[tokio::test]
async fn events_beyond_the_queue_are_dropped_at_once() {
    // Takes connections and answers none.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let hooks = Webhooks::start(options(&url, None), String::new(), &tasks, &stop).unwrap();
    let begin = Instant::now();
    (0..QUEUE + 100).for_each(|n| hooks.queue(&pushed(&n.to_string())));
    assert!(hooks.queues[0].is_full.load(Ordering::Relaxed));
    assert!(begin.elapsed() < ANSWER_TIMEOUT, "it waits for no answer");
}
