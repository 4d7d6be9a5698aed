//! Bundles in parts: each is a CARv1, and they come in any order.

use std::fs;

use libtest_mimic::Trial;

use super::{Source, document, first_document, import};
use crate::{
    harness::{Serve, trials},
    http::get,
};

pub fn trials() -> Vec<Trial> {
    trials![
        parts_are_imported_in_any_order_and_a_missing_one_is_named,
        parts_that_are_too_small_or_for_standard_output_are_rejected,
    ]
}

async fn parts_are_imported_in_any_order_and_a_missing_one_is_named() {
    // The layers of the second image go on in the next part.
    let source = Source::start(&[2 << 20, 20 << 20, 300_000]).await;
    let (path, said) = source.export("a.car", &["team/*", "--split", "20MB"]);
    let parts: Vec<String> = (1..=3).map(|part| format!("{path}.{part:03}")).collect();
    assert_eq!(said["parts"], 3, "{said}");
    for part in &parts {
        assert!(fs::metadata(part).unwrap().len() < 20_000_000, "{part}");
    }
    let [one, two, three] = [0, 1, 2].map(|at| parts[at].as_str());
    for order in [[one, two, three], [three, one, two], [two, three, one]] {
        let target = Serve::start(&[]);
        let imported = document(&import(target.data_dir(), &order));
        assert_eq!(imported["problems"].as_array().map(Vec::len), Some(0), "{imported}");
        source.is_served_by(&target).await;
    }
    // One after the other, each by a command of its own.
    let dir = tempfile::tempdir().unwrap();
    let want = dir.path().join("want.json").display().to_string();
    for (part, others) in [(three, "1, 2 of 3"), (one, "those after 1")] {
        let said = import(dir.path(), &[part, "--want", &want]);
        assert_eq!(said.code, Some(1), "{said:?}");
        let problems = first_document(&said)["problems"].to_string();
        assert!(problems.contains(others), "{problems}");
    }
    let node = Serve::start_in(dir.path(), &[]);
    assert_eq!(get(&node.url("/v2/team/app1/manifests/1.0")).await.status, 404);
    document(&import(dir.path(), &[two]));
    source.is_served_by(&node).await;
}

async fn parts_that_are_too_small_or_for_standard_output_are_rejected() {
    let source = Source::start(&[1000]).await;
    let path = source.path("a.car");
    let export = |more: &[&str]| source.node.command(&[&["bundle", "export"], more].concat());
    export(&[&path, "team/*", "--split", "1MB"]).failed(1, &["too small", "--split"]);
    export(&["-", "team/*", "--split", "1GB"]).failed(2, &["standard output"]);
    export(&[&path]).failed(2, &["no image", "--from-list"]);
    fs::write(&path, "here").unwrap();
    export(&[&path, "team/*"]).failed(1, &["does not exist yet"]);
    assert_eq!(fs::read(&path).unwrap(), b"here");
    assert!(!fs::exists(format!("{path}.unfinished")).unwrap());
}
