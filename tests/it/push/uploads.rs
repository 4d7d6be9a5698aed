use bytes::Bytes;
use futures::stream;
use libtest_mimic::Trial;
use ocipfs_oci::{Algorithm, Digest, Hasher};

use super::Repository;
use crate::{
    harness::{Serve, files_below, noise, trials, until},
    http::{ask, get, send},
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_monolithic_upload_takes_one_request_or_two,
        a_chunked_upload_accepts_chunks_in_order_only,
        a_streamed_upload_without_content_length_is_accepted,
        a_cancelled_upload_leaves_no_files,
        an_upload_with_a_wrong_digest_is_rejected_and_leaves_no_files,
        a_blob_is_mounted_from_another_repository,
        concurrent_pushes_of_one_blob_are_stored_once,
        slow_uploads_do_not_block_a_fast_upload,
        too_many_uploads_are_rejected_with_503_and_retry_after,
        invalid_upload_requests_are_rejected_with_the_reason,
        an_interrupted_upload_is_resumed_from_its_range,
        abandoned_uploads_are_listed_and_deleted,
        a_saved_upload_counts_once_against_the_quota_and_is_resumed,
        graceful_shutdown_saves_the_received_bytes_of_a_streamed_upload,
    ]
}

fn sha512(bytes: &[u8]) -> String {
    Hasher::of(Algorithm::Sha512, bytes).to_string()
}

fn sha256(bytes: &[u8]) -> String {
    Digest::sha256_of(bytes).to_string()
}

async fn a_monolithic_upload_takes_one_request_or_two() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    for bytes in [vec![], b"{}".to_vec(), noise(70_000), noise(3 << 20)] {
        for digest in [sha256(&bytes), sha512(&bytes)] {
            let once =
                send("POST", &a.url(&format!("blobs/uploads/?digest={digest}")), &[], bytes.clone()).await;
            let twice = a.end(&a.begin().await, &digest, &bytes).await;
            for answer in [once, twice] {
                assert_eq!(answer.status, 201, "{answer:?}");
                assert_eq!(answer.header("docker-content-digest"), digest);
                let pulled = get(&a.at(&answer)).await;
                assert!(pulled.status == 200 && pulled.body == bytes);
            }
            let head = ask("HEAD", &a.url(&format!("blobs/{digest}")), &[]).await;
            assert_eq!((head.status, head.header("content-length")), (200, &*bytes.len().to_string()));
        }
    }
}

async fn a_chunked_upload_accepts_chunks_in_order_only() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "org/a");
    let bytes = noise(2_500_000);
    let digest = sha256(&bytes);
    let at = a.begin().await;
    let first = a.part(&at, 0, &bytes[..1_000_000]).await;
    assert_eq!((first.status, first.header("range")), (202, "0-999999"), "{first:?}");
    assert!(first.header("oci-chunk-min-length").parse::<u64>().is_ok());
    for start in [0, 1_000_001, 2_000_000] {
        let answer = a.part(&at, start, &bytes[start..start + 10]).await;
        answer.refused(416, "BLOB_UPLOAD_INVALID", &["expected 1000000"]);
        assert_eq!((a.at(&answer), answer.header("range")), (at.clone(), "0-999999"));
    }
    let status = get(&at).await;
    assert_eq!((status.status, status.header("range")), (204, "0-999999"));
    assert_eq!(a.part(&at, 1_000_000, &bytes[1_000_000..1_000_001]).await.status, 202);
    let end = format!("{at}?digest={digest}");
    let late = send("PUT", &end, &[("content-range", "5-9")], bytes[5..10].to_vec()).await;
    late.refused(416, "BLOB_UPLOAD_INVALID", &[]);
    let range = format!("1000001-{}", bytes.len() - 1);
    let last = send("PUT", &end, &[("content-range", &range)], bytes[1_000_001..].to_vec()).await;
    assert_eq!(last.status, 201, "{last:?}");
    a.has(&bytes).await;
    get(&at).await.refused(404, "BLOB_UPLOAD_UNKNOWN", &["start a new one"]);
}

async fn a_streamed_upload_without_content_length_is_accepted() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let bytes = noise(5 << 20);
    let parts: Vec<Result<Bytes, std::io::Error>> =
        bytes.chunks(100_000).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    let at = a.begin().await;
    let answer = send("PATCH", &at, &[], reqwest::Body::wrap_stream(stream::iter(parts))).await;
    assert_eq!((answer.status, answer.header("range")), (202, "0-5242879"));
    assert_eq!(a.end(&at, &sha256(&bytes), b"").await.status, 201);
    a.has(&bytes).await;
}

async fn a_cancelled_upload_leaves_no_files() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let at = a.begin().await;
    assert_eq!(a.part(&at, 0, &noise(2 << 20)).await.status, 202);
    assert_eq!(files_below(node.data_dir(), "incoming"), 1);
    assert_eq!(ask("DELETE", &at, &[]).await.status, 204);
    for method in ["DELETE", "PATCH", "GET"] {
        ask(method, &at, &[]).await.refused(404, "BLOB_UPLOAD_UNKNOWN", &[]);
    }
    assert_eq!(files_below(node.data_dir(), "incoming"), 0);
}

async fn an_upload_with_a_wrong_digest_is_rejected_and_leaves_no_files() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let bytes = noise(2 << 20);
    for digest in [sha256(b"other"), sha512(b"other")] {
        a.end(&a.begin().await, &digest, &bytes).await.refused(400, "DIGEST_INVALID", &[&digest]);
        let at = a.begin().await;
        assert_eq!(a.part(&at, 0, &bytes).await.status, 202);
        a.end(&at, &digest, b"").await.refused(400, "DIGEST_INVALID", &[&digest]);
        let once = a.url(&format!("blobs/uploads/?digest={digest}"));
        send("POST", &once, &[], bytes.clone()).await.refused(400, "DIGEST_INVALID", &[&digest]);
    }
    assert_eq!((node.stored("blobs"), files_below(node.data_dir(), "incoming")), (0, 0));
    a.get(&format!("blobs/{}", sha256(&bytes))).await.refused(404, "NAME_UNKNOWN", &[]);
}

async fn a_blob_is_mounted_from_another_repository() {
    let node = Serve::start(&[]);
    let (a, b) = (Repository::new(&node, "a"), Repository::new(&node, "b"));
    let bytes = noise(100_000);
    let digest = a.push(&bytes).await;
    let mount = |query: &str| ask_post(b.url(&format!("blobs/uploads/?mount={digest}{query}")));
    assert_eq!(mount("&from=nobody").await.status, 202);
    for query in ["&from=a", ""] {
        let answer = mount(query).await;
        assert_eq!((answer.status, answer.header("docker-content-digest")), (201, &*digest));
        assert!(get(&b.at(&answer)).await.body == bytes);
        assert_eq!(b.delete(&format!("blobs/{digest}")).await.status, 202);
    }
    let other = sha256(b"nowhere");
    let answer = ask_post(b.url(&format!("blobs/uploads/?mount={other}&from=a"))).await;
    assert_eq!(answer.status, 202, "an upload instead");
    assert_eq!(b.end(&b.at(&answer), &other, b"nowhere").await.status, 201);
}

async fn ask_post(url: String) -> crate::http::Answer {
    ask("POST", &url, &[]).await
}

async fn concurrent_pushes_of_one_blob_are_stored_once() {
    let node = Serve::start(&[]);
    let bytes = noise(3 << 20);
    let pushes = (0..16).map(|n| {
        let repository = Repository::new(&node, &format!("r{}", n % 4));
        let bytes = bytes.clone();
        async move { repository.push(&bytes).await }
    });
    futures::future::join_all(pushes).await;
    assert_eq!((node.stored("blobs"), node.stored("bytes")), (1, bytes.len() as u64));
    assert_eq!((files_below(node.data_dir(), "blobs"), files_below(node.data_dir(), "incoming")), (1, 0));
    for n in 0..4 {
        Repository::new(&node, &format!("r{n}")).has(&bytes).await;
    }
}

async fn slow_uploads_do_not_block_a_fast_upload() {
    const SLOW: usize = 40;
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let mut slow = Vec::new();
    for n in 0..SLOW {
        let (more, parts) = futures::channel::mpsc::unbounded::<Result<Bytes, std::io::Error>>();
        let url = format!("{}?digest={}", a.begin().await, sha256(&slow_blob(n)));
        let request = reqwest::Client::new().put(url).body(reqwest::Body::wrap_stream(parts));
        slow.push((more, tokio::spawn(request.send())));
    }
    // Between the pieces of the slow ones, a fast one comes and ends.
    let blobs: Vec<Bytes> = (0..SLOW).map(|n| slow_blob(n).into()).collect();
    for start in (0..PIECE * PIECES).step_by(PIECE) {
        for ((more, _), blob) in slow.iter().zip(&blobs) {
            more.unbounded_send(Ok(blob.slice(start..start + PIECE))).expect("it is sent");
        }
        let fast = noise(1_000_000 + start);
        let pushed = crate::harness::within(std::time::Duration::from_secs(20), a.push(&fast)).await;
        assert_eq!(pushed, sha256(&fast));
    }
    for (n, (more, answer)) in slow.into_iter().enumerate() {
        drop(more);
        let status = answer.await.expect("a task").expect("an answer").status();
        assert_eq!(status, 201, "upload {n}");
        a.has(&slow_blob(n)).await;
    }
}

async fn too_many_uploads_are_rejected_with_503_and_retry_after() {
    let node = Serve::start(&[]);
    let url = Repository::new(&node, "a").url("blobs/uploads/");
    let client = reqwest::Client::new();
    let begin = |_| client.post(&url).send();
    let answers = futures::future::try_join_all((0..550).map(begin)).await.expect("answers");
    let (mut begun, mut refused) = (0, 0);
    for answer in answers {
        match answer.status().as_u16() {
            202 => begun += 1,
            503 => {
                refused += 1;
                assert_eq!(answer.headers()["retry-after"], "5");
            }
            other => panic!("{other}"),
        }
    }
    assert!(begun >= 500 && refused > 0, "{begun} were begun, {refused} refused");
}

const PIECE: usize = 20_000;
const PIECES: usize = 10;

/// A blob of some pieces, another for each number.
fn slow_blob(number: usize) -> Vec<u8> {
    noise(PIECE * PIECES).into_iter().map(|byte| byte ^ number as u8).collect()
}

async fn invalid_upload_requests_are_rejected_with_the_reason() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let begin = |query: &str| ask_post(a.url(&format!("blobs/uploads/{query}")));
    begin("?digest=sha256:00").await.refused(400, "DIGEST_INVALID", &["64 hex digits"]);
    begin("?mount=md5:00").await.refused(400, "DIGEST_INVALID", &["md5"]);
    begin("?digest-algorithm=md5").await.refused(400, "DIGEST_INVALID", &["md5"]);
    begin("some-id").await.refused(405, "UNSUPPORTED", &[]);
    let at = a.begin().await;
    send("PUT", &at, &[], "x").await.refused(400, "DIGEST_INVALID", &["?digest="]);
    for text in ["5", "9-5", "a-b"] {
        send("PATCH", &at, &[("content-range", text)], "12345").await.refused(
            400,
            "BLOB_UPLOAD_INVALID",
            &["<first>-<last>"],
        );
    }
    let part = send("PATCH", &at, &[("content-range", "0-9")], "12345").await;
    part.refused(400, "SIZE_INVALID", &["10 bytes"]);
    let other = at.replace("/v2/a/", "/v2/b/");
    get(&other).await.refused(404, "BLOB_UPLOAD_UNKNOWN", &[]);
    for (name, told) in
        [("a/blobs", "\"blobs\""), ("a/index.json/b", "\"index.json\""), ("a/oci-layout", "\"oci-layout\"")]
    {
        let answer = ask_post(node.url(&format!("/v2/{name}/blobs/uploads/"))).await;
        answer.refused(403, "DENIED", &[told, "push to another name"]);
    }
    ask_post(node.url("/v2/A/blobs/uploads/")).await.refused(400, "NAME_INVALID", &["upper-case"]);
    assert_eq!(
        ask_post(node.url("/v2/blobs/blobs/uploads/")).await.status,
        202,
        "the first may be called so"
    );
}

async fn an_interrupted_upload_is_resumed_from_its_range() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let bytes = noise(3_000_000);
    let at = a.begin().await;
    let sent = bytes[..2_000_000].to_vec();
    let body = stream::unfold(Some(sent), |sent| async move {
        match sent {
            Some(sent) => Some((Ok(Bytes::from(sent)), None)),
            None => {
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                Some((Err(std::io::Error::other("gone")), None))
            }
        }
    });
    let request = reqwest::Client::new().patch(&at).body(reqwest::Body::wrap_stream(body)).send().await;
    assert!(request.is_err());
    let status = get(&at).await;
    let length: usize = status.header("range").trim_start_matches("0-").parse().expect("a position");
    assert!(length < 2_000_000, "{length}");
    let length = if length == 0 { 0 } else { length + 1 };
    assert_eq!(a.part(&at, length, &bytes[length..]).await.status, 202);
    assert_eq!(a.end(&at, &sha256(&bytes), b"").await.status, 201);
    a.has(&bytes).await;
    until("nothing is left", || files_below(node.data_dir(), "incoming") == 0).await;
}

async fn abandoned_uploads_are_listed_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start_in(dir.path(), &[]);
    let a = Repository::new(&node, "a");
    assert_eq!(a.part(&a.begin().await, 0, &noise(2 << 20)).await.status, 202);
    let stat = node.json(&["store", "stat"]);
    let told =
        |stat: &serde_json::Value, rows: [&str; 5]| rows.map(|row| stat[row].as_u64().expect("a number"));
    let rows = ["uploads", "upload_bytes", "abandoned_uploads", "abandoned_upload_bytes", "partial"];
    assert_eq!(told(&stat, rows), [1, 2 << 20, 0, 0, 0], "{stat}");
    assert!(node.command(&["status"]).stdout.contains("1 uploads (2.00 MiB)"));
    node.kill();
    let node = Serve::start_in(dir.path(), &[]);
    assert_eq!(
        told(
            &node.status(),
            ["uploads", "upload_bytes", "abandoned_uploads", "abandoned_upload_bytes", "used_bytes"]
        ),
        [0, 0, 1, 2 << 20, 2 << 20]
    );
    let dry = node.json(&["store", "gc", "--uploads", "--dry-run"]);
    assert_eq!((&dry["uploads"], &dry["bytes"]), (&1.into(), &(2 << 20).into()));
    assert_eq!(files_below(dir.path(), "incoming"), 1);
    assert!(node.ask(&["store", "gc", "--uploads"]).contains("1 abandoned uploads dropped"));
    assert_eq!((files_below(dir.path(), "incoming"), node.stored("used_bytes")), (0, 0));
}

async fn a_saved_upload_counts_once_against_the_quota_and_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let limited = || Serve::start_in(dir.path(), &["--max-size", "10MiB"]);
    let bytes = noise(9 << 20);
    let node = limited();
    let at = Repository::new(&node, "a").begin().await;
    assert_eq!(Repository::new(&node, "a").part(&at, 0, &bytes[..6 << 20]).await.status, 202);
    node.kill();
    let node = limited();
    let a = Repository::new(&node, "a");
    let other = a.begin().await;
    a.part(&other, 0, &bytes[..6 << 20]).await.refused(403, "DENIED", &["--max-size"]);
    let at = node.url(&at[at.find("/v2/").expect("a path")..]);
    assert_eq!(a.part(&at, 6 << 20, &bytes[6 << 20..]).await.status, 202);
    assert_eq!(a.end(&at, &sha256(&bytes), b"").await.status, 201);
    a.has(&bytes).await;
    assert_eq!(node.stored("used_bytes"), 9 << 20);
}

async fn graceful_shutdown_saves_the_received_bytes_of_a_streamed_upload() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = noise(2_500_000);
    let node = Serve::start_in(dir.path(), &[]);
    let at = Repository::new(&node, "a").begin().await;
    assert_eq!(send("PATCH", &at, &[], bytes[..2_000_000].to_vec()).await.status, 202);
    // It never ends.
    let (asked, mut is_asked) = tokio::sync::mpsc::unbounded_channel();
    let body = stream::poll_fn(move |_| {
        let _ = asked.send(());
        std::task::Poll::<Option<Result<Bytes, std::io::Error>>>::Pending
    });
    let request = reqwest::Client::new().patch(&at).body(reqwest::Body::wrap_stream(body)).send();
    let request = tokio::spawn(request);
    is_asked.recv().await.expect("it is sent");
    assert!(node.stop().success());
    request.abort();
    let node = Serve::start_in(dir.path(), &[]);
    let a = Repository::new(&node, "a");
    let at = node.url(&at[at.find("/v2/").expect("a path")..]);
    assert_eq!(get(&at).await.header("range"), "0-1999999");
    assert_eq!(a.end(&at, &sha256(&bytes), &bytes[2_000_000..]).await.status, 201);
    a.has(&bytes).await;
}
