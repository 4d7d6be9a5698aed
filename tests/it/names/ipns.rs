//! `ipns/<key>[/<dir>...][:tag]`: what a key's owner says that it means.

use libtest_mimic::Trial;
use ocipfs::content::Profile;
use ocipfs_node::Cid;

use super::{
    Pair, folder,
    folder::Shape,
    image::{Image, layout, tagged},
};
use crate::{
    following,
    harness::{Serve, trials},
    http::get,
};

const PLAIN: Shape = Shape::Plain(Profile::UnixfsV1);

pub fn trials() -> Vec<Trial> {
    trials![
        an_image_is_pulled_by_ipns_name_and_changes_with_each_publish,
        an_ipns_name_resolves_to_its_last_known_value_with_a_warning_without_peers,
        an_unknown_or_invalid_ipns_name_is_rejected,
        a_missing_tag_resolves_a_cached_ipns_name_again_before_404,
    ]
}

/// A pair whose source has a folder for each image, in a directory called `app`.
async fn pair(images: &[Image]) -> (Pair, Vec<Cid>) {
    Pair::new(async |offline| {
        let mut cids = Vec::new();
        for image in images {
            let files = layout("app/", &[tagged(image.descriptor(), "1")], &[image], &[]);
            cids.push(folder::put(offline, &files, PLAIN).await);
        }
        cids
    })
    .await
}

fn publish(pair: &Pair, ttl: &str, target: &str) -> String {
    let source = pair.source.as_ref().expect("it runs");
    source.ask(&["-q", "name", "publish", "--key", "releases", "--ttl", ttl, target])
}

async fn an_image_is_pulled_by_ipns_name_and_changes_with_each_publish() {
    let images = [Image::of("old", 3 << 20), Image::of("new", 2 << 20)];
    let (pair, cids) = pair(&images).await;
    let name = publish(&pair, "1s", &cids[0].to_string());
    let repository = format!("ipns/{name}/app");
    pair.pulls(&repository, "1", &images[0]).await;
    assert_eq!(pair.tags(&repository).await, ["1"]);

    assert_eq!(publish(&pair, "1s", &format!("/ipfs/{}", cids[1])), name);
    pair.comes_to_mean(&repository, "1", &images[1]).await;
    pair.pulls(&repository, "1", &images[1]).await;
    // A client that began with the earlier value continues with it.
    pair.pulls(&repository, &images[0].digest(), &images[0]).await;

    let path = pair.reader.ask(&["name", "resolve", &format!("/ipns/{name}/app")]);
    assert_eq!(path, format!("/ipfs/{}/app", cids[1]));
    let source = pair.source.as_ref().expect("it runs");
    assert_eq!(source.ask(&["name", "resolve", "releases"]), format!("/ipfs/{}", cids[1]));
    let names = source.json(&["name", "ls"]);
    assert_eq!((&names[0]["key"], &names[1]["key"]), (&"self".into(), &"releases".into()), "{names}");
    assert_eq!(names[1]["name"], name.as_str());
}

async fn a_missing_tag_resolves_a_cached_ipns_name_again_before_404() {
    let publisher = Serve::start(&[]);
    let reader = Serve::start(&["--peer", publisher.address()]);
    reader.until("the publisher is connected", |status| status["peers"] == 1).await;
    let name = following::name_of(&publisher);
    let images = [Image::of("old", 1000), Image::of("new", 2000)];
    following::push(&publisher, "app", "old", &images[0]).await;
    following::published(&publisher).await;
    let repository = format!("ipns/{name}/app");
    following::known(&reader, &repository, "old", &images[0]).await;
    // The record may be used for a minute, which is longer than `known` waits.
    for (tag, repository) in [("new", "app"), ("1", "other")] {
        following::push(&publisher, repository, tag, &images[1]).await;
        following::published(&publisher).await;
        following::known(&reader, &format!("ipns/{name}/{repository}"), tag, &images[1]).await;
    }
    let none = reader.url(&format!("/v2/{repository}/manifests/none"));
    get(&none).await.refused(404, "MANIFEST_UNKNOWN", &["none"]);
}

async fn an_ipns_name_resolves_to_its_last_known_value_with_a_warning_without_peers() {
    let images = [Image::of("kept", 2 << 20)];
    let (mut pair, cids) = pair(&images).await;
    let name = publish(&pair, "1s", &cids[0].to_string());
    let repository = format!("ipns/{name}/app");
    pair.pulls(&repository, "1", &images[0]).await;
    let fresh = pair.get(format!("{repository}/manifests/1")).await;
    assert_eq!(fresh.headers.get("warning"), None);

    // Another that has seen it, restarted when no other node is left.
    let dir = tempfile::tempdir().unwrap();
    let source = pair.source.as_ref().expect("it runs").address().to_string();
    pair.reader = Serve::start_in(dir.path(), &["--peer", &source, "--find-timeout", "2s"]);
    pair.reader.until("the source is connected", |status| status["peers"] == 1).await;
    pair.pulls(&repository, "1", &images[0]).await;
    pair.end_source();
    drop(std::mem::replace(&mut pair.reader, Serve::start(&[])));
    pair.reader = Serve::start_in(dir.path(), &["--find-timeout", "2s"]);
    let stale = pair.get(format!("{repository}/manifests/1")).await;
    assert_eq!((stale.status, stale.body.as_slice()), (200, &images[0].manifest[..]));
    assert!(stale.header("warning").starts_with("110 "), "{}", stale.header("warning"));
    pair.pulls(&repository, "1", &images[0]).await;
    // Only the first request waited for an answer.
    assert_eq!(pair.reader.log().matches("no answer for this name").count(), 1, "{}", pair.reader.log());
}

async fn an_unknown_or_invalid_ipns_name_is_rejected() {
    let (pair, cids) = pair(&[Image::of("any", 100)]).await;
    let name = publish(&pair, "1m", &cids[0].to_string());
    let unknown = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
    for (path, status, code, says) in [
        (format!("ipns/{unknown}/app/manifests/1"), 404, "NAME_UNKNOWN", "no record found for k51"),
        (format!("ipns/{name}/app/manifests/2"), 404, "MANIFEST_UNKNOWN", "expected 1"),
        (format!("ipns/{name}/other/manifests/1"), 404, "NAME_UNKNOWN", "it has app"),
        ("ipns/nonsense/app/manifests/1".into(), 400, "NAME_INVALID", "expected the CID of a key"),
        (format!("ipns/{}/app/manifests/1", cids[0]), 400, "NAME_INVALID", "expected the CID of a key"),
    ] {
        pair.get(&path).await.refused(status, code, &[says]);
    }
    let source = pair.source.as_ref().expect("it runs");
    for (arguments, says) in [
        (&["name", "publish", "--key", "a/b", "/ipfs/x"][..], "invalid path"),
        (&["name", "publish", "--key", "a/b", &cids[0].to_string()], "invalid key name"),
        (&["name", "resolve", "nonsense"], "invalid IPNS name"),
        (&["name", "resolve", unknown], "no record found for"),
    ] {
        let said = source.command(arguments);
        assert_eq!(said.code, Some(1), "{arguments:?}");
        assert!(said.stderr.contains(says), "{arguments:?}: {}", said.stderr);
    }
}
