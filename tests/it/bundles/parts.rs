//! Bundles in parts: each is a CARv1, and they come in any order.

use std::fs;

use libtest_mimic::Trial;
use serde_json::json;

use super::{Source, document, first_document, import};
use crate::{
    harness::{Serve, finish, ocipfs, trials},
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
    are_told_apart(&[one, two, three], &source).await;
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

/// Holds that `inspect` says which parts the files are.
async fn are_told_apart(parts: &[&str; 3], source: &Source) {
    let inspect =
        |files: &[&str]| finish(ocipfs(source.node.data_dir()).args(["bundle", "inspect"]).args(files));
    let shown = inspect(parts);
    for (number, part) in parts.iter().enumerate() {
        assert!(shown.stdout.contains(&format!("part      {} of 3: {part}", number + 1)), "{shown:?}");
    }
    let shown = inspect(&parts[1..2]);
    assert!(shown.stdout.contains(&format!("part      2 of more: {}", parts[1])), "{shown:?}");
    let shown = document(&finish(
        ocipfs(source.node.data_dir()).args(["--json", "bundle", "inspect", parts[2], parts[0]]),
    ));
    assert_eq!(
        shown["parts"],
        json!([{ "file": parts[2], "part": 3, "last": true }, { "file": parts[0], "part": 1, "last": false }])
    );
    // A whole bundle is not a part, and files of two bundles are not one bundle.
    let (whole, _) = source.export("whole.car", &["team/app0:1.0"]);
    let shown = inspect(&[&whole]);
    assert!(shown.code == Some(0) && !shown.stdout.contains("part "), "{shown:?}");
    inspect(&[parts[0], &whole]).failed(1, &["is part of another bundle", "ocipfs bundle diff"]);
    let truncated = source.path("truncated.car");
    let bytes = fs::read(&whole).unwrap();
    fs::write(&truncated, &bytes[..bytes.len() - 20]).unwrap();
    let shown = inspect(&[&truncated]);
    assert!(shown.stdout.contains("part      unknown, since its end is missing"), "{shown:?}");
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
