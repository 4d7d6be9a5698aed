//! `ipns/<domain>[/<dir>...][:tag]`: what a TXT record of DNS says that it means.

use std::fs;

use libtest_mimic::Trial;
use ocipfs::content::Profile;
use ocipfs_node::Cid;

use super::{
    Pair, folder,
    folder::Shape,
    image::{Image, layout, tagged},
};
use crate::{
    dns::Dns,
    following,
    harness::{Serve, finish, ocipfs, trials},
    http::get,
};

const PLAIN: Shape = Shape::Plain(Profile::UnixfsV1);
/// Longer than any story.
const LONG: u32 = 3600;

pub fn trials() -> Vec<Trial> {
    trials![
        an_image_is_pulled_by_domain_and_changes_with_its_dnslink_record,
        a_dnslink_record_may_point_to_a_path_an_ipns_name_or_a_domain,
        a_dnslink_record_is_cached_for_its_ttl,
        a_missing_tag_resolves_a_cached_dnslink_again_before_404,
        a_domain_resolves_to_its_last_known_value_with_a_warning_while_dns_is_unreachable,
        an_unresolvable_domain_is_an_error_with_the_reason,
        a_private_swarm_sends_no_dns_queries,
        an_invalid_dns_resolver_is_rejected_at_start,
    ]
}

/// A pair whose source has a folder for each image, in a directory called `app`, and whose reader asks `dns`.
async fn pair(dns: &Dns, images: &[Image]) -> (Pair, Vec<Cid>) {
    let (mut pair, cids) = Pair::new(async |offline| {
        let mut cids = Vec::new();
        for image in images {
            let files = layout("app/", &[tagged(image.descriptor(), "1")], &[image], &[]);
            cids.push(folder::put(offline, &files, PLAIN).await);
        }
        cids
    })
    .await;
    pair.ask_dns(dns).await;
    (pair, cids)
}

async fn an_image_is_pulled_by_domain_and_changes_with_its_dnslink_record() {
    let (dns, images) = (Dns::start().await, [Image::of("old", 3 << 20), Image::of("new", 2 << 20)]);
    let (pair, cids) = pair(&dns, &images).await;
    let links = cids.iter().map(|cid| format!("dnslink=/ipfs/{cid}")).collect::<Vec<_>>();
    dns.set("_dnslink.images.example", 1, &["v=spf1 -all", &links[0]]);
    pair.pulls("ipns/images.example/app", "1", &images[0]).await;
    assert_eq!(pair.tags("ipns/images.example/app").await, ["1"]);

    dns.set("_dnslink.images.example", 1, &[&links[1]]);
    pair.comes_to_mean("ipns/images.example/app", "1", &images[1]).await;
    pair.pulls("ipns/images.example/app", "1", &images[1]).await;
    // A client that began with the earlier value continues with it.
    pair.pulls("ipns/images.example/app", &images[0].digest(), &images[0]).await;
    let path = pair.reader.ask(&["name", "resolve", "images.example"]);
    assert_eq!(path, format!("/ipfs/{}", cids[1]));
    let path = pair.reader.ask(&["name", "resolve", "ipns://Images.Example/app"]);
    assert_eq!(path, format!("/ipfs/{}/app", cids[1]));
}

async fn a_dnslink_record_may_point_to_a_path_an_ipns_name_or_a_domain() {
    let (dns, images) = (Dns::start().await, [Image::of("any", 100)]);
    let (pair, cids) = pair(&dns, &images).await;
    let source = pair.source.as_ref().expect("it runs");
    let key = source.ask(&["-q", "name", "publish", "--key", "releases", &cids[0].to_string()]);
    // The record of the domain itself counts where there is none below it, and one record is what the other leads to.
    dns.set("plain.example", LONG, &[&format!("dnslink=/ipfs/{}/app", cids[0])]);
    dns.set("_dnslink.key.example", LONG, &[&format!("dnslink=/ipns/{key}/app")]);
    dns.set("_dnslink.domain.example", LONG, &["dnslink=/ipns/key.example"]);
    for name in ["ipns/plain.example", "ipns/key.example", "ipns/domain.example"] {
        pair.pulls(name, "1", &images[0]).await;
    }
    // A key may lead to a domain, too.
    let key = pair.reader.ask(&["-q", "name", "publish", "--key", "mine", "/ipns/plain.example"]);
    pair.pulls(&format!("ipns/{key}"), "1", &images[0]).await;
    // A text of several strings, as DNS has it where it is long.
    let long = format!("dnslink=/ipfs/{}{}", cids[0], "/a".repeat(60));
    let longer = format!("{long}{}", "b".repeat(200));
    dns.set("_dnslink.long.example", LONG, &[&longer]);
    let path = pair.reader.ask(&["name", "resolve", "long.example"]);
    assert_eq!(path, longer.trim_start_matches("dnslink="));
}

async fn a_dnslink_record_is_cached_for_its_ttl() {
    let (dns, images) = (Dns::start().await, [Image::of("any", 100)]);
    let (pair, cids) = pair(&dns, &images).await;
    let link = format!("dnslink=/ipfs/{}", cids[0]);
    dns.set("_dnslink.long.example", LONG, &[&link]);
    dns.set("_dnslink.short.example", 1, &[&link]);
    pair.pulls("ipns/long.example/app", "1", &images[0]).await;
    let asked = dns.asked();
    assert_ne!(asked, 0);
    pair.pulls("ipns/long.example/app", "1", &images[0]).await;
    assert_eq!(dns.asked(), asked);
    pair.pulls("ipns/short.example/app", "1", &images[0]).await;
    let asked = dns.asked();
    pair.answers("DNS is asked again", "ipns/short.example/app/manifests/1", |_| dns.asked() > asked).await;
}

async fn a_missing_tag_resolves_a_cached_dnslink_again_before_404() {
    let (dns, publisher) = (Dns::start().await, Serve::start(&[]));
    let reader = Serve::start(&["--peer", publisher.address(), "--dns-resolver", &dns.address()]);
    reader.until("the publisher is connected", |status| status["peers"] == 1).await;
    let images = [Image::of("old", 1000), Image::of("new", 2000)];
    let repository = |name: &str| format!("ipns/images.example/{name}");
    for (name, tag, image) in
        [("app", "old", &images[0]), ("app", "new", &images[1]), ("other", "1", &images[1])]
    {
        following::push(&publisher, name, tag, image).await;
        let root = following::published(&publisher).await;
        dns.set("_dnslink.images.example", LONG, &[&format!("dnslink=/ipfs/{root}")]);
        // What was resolved before may be used for an hour, which is longer than `known` waits.
        following::known(&reader, &repository(name), tag, image).await;
    }
    // What is there is answered without a question, once it has been fetched.
    following::known(&reader, &repository("app"), "old", &images[0]).await;
    let asked = dns.asked();
    following::known(&reader, &repository("app"), "old", &images[0]).await;
    assert_eq!(dns.asked(), asked);
    let none = reader.url(&format!("/v2/{}/manifests/none", repository("app")));
    get(&none).await.refused(404, "MANIFEST_UNKNOWN", &["none"]);
}

async fn a_domain_resolves_to_its_last_known_value_with_a_warning_while_dns_is_unreachable() {
    let (dns, images) = (Dns::start().await, [Image::of("kept", 2 << 20)]);
    let (mut pair, cids) = pair(&dns, &images).await;
    dns.set("_dnslink.images.example", 1, &[&format!("dnslink=/ipfs/{}", cids[0])]);
    let dir = tempfile::tempdir().unwrap();
    let source = pair.source.as_ref().expect("it runs").address().to_string();
    let asking = ["--find-timeout", "2s", "--dns-resolver", &dns.address()];
    pair.reader = Serve::start_in(dir.path(), &[&asking[..], &["--peer", &source]].concat());
    pair.reader.until("the source is connected", |status| status["peers"] == 1).await;
    pair.pulls("ipns/images.example/app", "1", &images[0]).await;
    let path = "ipns/images.example/app/manifests/1";
    assert_eq!(pair.get(path).await.headers.get("warning"), None);

    dns.silence(true);
    pair.answers("it says that it is stale", path, |answer| answer.headers.contains_key("warning")).await;
    let is_stale = async |pair: &Pair| {
        let stale = pair.get(path).await;
        assert_eq!((stale.status, stale.body.as_slice()), (200, &images[0].manifest[..]));
        assert!(stale.header("warning").starts_with("110 "), "{}", stale.header("warning"));
    };
    is_stale(&pair).await;
    assert!(pair.reader.log().contains("no answer for this name"), "{}", pair.reader.log());
    // What comes next does not wait for the server again.
    let asked = dns.asked();
    is_stale(&pair).await;
    pair.pulls("ipns/images.example/app", "1", &images[0]).await;
    assert_eq!(dns.asked(), asked);

    // Restarted when there is neither a peer nor DNS.
    pair.end_source();
    drop(std::mem::replace(&mut pair.reader, Serve::start(&[])));
    pair.reader = Serve::start_in(dir.path(), &asking);
    is_stale(&pair).await;
    pair.pulls("ipns/images.example/app", "1", &images[0]).await;
    let said = pair.reader.command(&["name", "resolve", "images.example"]);
    assert_eq!(said.last_line(), format!("/ipfs/{}", cids[0]));
    assert!(said.stderr.contains("last known value"), "{said:?}");
    // So also without a running node.
    drop(pair);
    let said = finish(ocipfs(dir.path()).args(["name", "resolve", "images.example"]));
    assert_eq!((said.code, said.last_line()), (Some(0), format!("/ipfs/{}", cids[0]).as_str()), "{said:?}");
    finish(ocipfs(dir.path()).args(["name", "resolve", "other.example"]))
        .failed(1, &["only a running node", "hint: start `ocipfs serve`"]);
}

async fn an_unresolvable_domain_is_an_error_with_the_reason() {
    let (dns, images) = (Dns::start().await, [Image::of("any", 100)]);
    let (pair, cids) = pair(&dns, &images).await;
    dns.set("_dnslink.good.example", 1, &[&format!("dnslink=/ipfs/{}", cids[0])]);
    dns.set("_dnslink.circle.example", LONG, &["dnslink=/ipns/circle.example"]);
    dns.set("_dnslink.bad.example", LONG, &["dnslink=/ipfs/nonsense"]);
    dns.set("_dnslink.other.example", LONG, &["dnslink=/hyper/x", "v=spf1 -all"]);
    for (path, status, code, says) in [
        ("good.example/app/manifests/2", 404, "MANIFEST_UNKNOWN", "expected 1"),
        ("good.example/other/manifests/1", 404, "NAME_UNKNOWN", "it has app"),
        ("none.example/manifests/1", 404, "NAME_UNKNOWN", "neither _dnslink.none.example nor none.example"),
        ("other.example/manifests/1", 404, "NAME_UNKNOWN", "a TXT record dnslink=/ipfs/<cid>"),
        ("circle.example/manifests/1", 502, "NAME_INVALID", "more than 8 names"),
        ("bad.example/manifests/1", 502, "NAME_INVALID", "bad.example leads to \"/ipfs/nonsense\""),
    ] {
        pair.get(format!("ipns/{path}")).await.refused(status, code, &[says]);
    }
    // What is gone by its owner's will is not served as it was.
    dns.remove("_dnslink.good.example");
    let path = "ipns/good.example/app/manifests/1";
    pair.answers("its owner's will counts", path, |answer| answer.status != 200).await;
    pair.get(path).await.refused(404, "NAME_UNKNOWN", &["no DNSLink for"]);
    dns.silence(true);
    let unanswered = pair.get("ipns/never.example/app/manifests/1").await;
    unanswered.refused(504, "DNS_UNANSWERED", &["DNS lookup of never.example failed"]);
    let said = pair.reader.command(&["name", "resolve", "never.example"]);
    said.failed(1, &["DNS lookup of", "hint: ", "--dns-resolver"]);
}

async fn a_private_swarm_sends_no_dns_queries() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("swarm.key");
    fs::write(&key, finish(ocipfs(dir.path()).args(["swarm", "key"])).stdout).unwrap();
    let node = Serve::start(&["--swarm-key", key.to_str().unwrap()]);
    let refused = get(&node.url("/v2/ipns/images.example/app/manifests/1")).await;
    refused.refused(404, "NAME_UNKNOWN", &["a node with a swarm key does not use DNS", "ipns/<k51...>"]);
}

async fn an_invalid_dns_resolver_is_rejected_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("node");
    let refused = |server: &str| finish(ocipfs(&data).args(["serve", "--dns-resolver", server]));
    refused("dns.example").failed(2, &["invalid DNS server", "192.0.2.1:53"]);
    refused("127.0.0.1:99999").failed(2, &["invalid DNS server"]);
    let said = finish(ocipfs(&data).arg("serve").env("OCIPFS_DNS_RESOLVER", "127.0.0.1,x"));
    said.failed(2, &["invalid DNS server"]);
    assert!(!data.exists());
}
