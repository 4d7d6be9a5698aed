//! Where a node says that images are withheld: its state, and the commands that bring images.

use std::{fs, path::Path};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::Policed;
use crate::{
    harness::{Serve, trials},
    names::image::{Image, layout, tagged},
};

pub fn trials() -> Vec<Trial> {
    trials![
        the_status_says_how_many_pushed_images_are_withheld_and_why,
        image_import_warns_of_an_unsigned_image_that_a_policy_is_about,
    ]
}

async fn the_status_says_how_many_pushed_images_are_withheld_and_why() {
    let node = Policed::start(&[]);
    let status = || node.node().status()["withheld"].clone();
    assert_eq!(status(), json!({ "images": 0, "more": false, "first": [] }));
    let mut images = Vec::new();
    for number in 0..12 {
        images.push(node.of("alice").push("team/app", &format!("t{number:02}"), &[number]).await);
    }
    node.of("alice").push("other/app", "1", b"a policy is not about it").await;
    node.sign("carol", "team/app", &images[1]).await;
    let told = status();
    // The tag of the signature is not of an image.
    assert_eq!((&told["images"], &told["more"]), (&json!(11), &json!(false)), "{told}");
    let first: Vec<&Value> = told["first"].as_array().unwrap().iter().collect();
    assert_eq!(first.len(), 10);
    assert_eq!((&first[0]["image"], &first[1]["image"]), (&json!("team/app:t00"), &json!("team/app:t02")));
    assert_eq!(first[0]["digest"], json!(images[0]));
    assert!(first[0]["why"].as_str().unwrap().contains("\"release\""), "{told}");
    let said = node.node().command(&["status"]);
    for text in ["withheld    11 pushed images", "ocipfs repo inspect NAME", "team/app:t00: policy 1"] {
        assert!(said.stdout.contains(text), "{text}: {said:?}");
    }
    let open = Serve::start(&[]);
    assert_eq!(open.status()["withheld"], Value::Null);
    assert!(!open.command(&["status"]).stdout.contains("withheld"));
}

/// Writes a layout of one image.
pub fn write_layout(dir: &Path, image: &Image) {
    for (path, bytes) in layout("", &[tagged(image.descriptor(), "1")], &[image], &[]) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

async fn image_import_warns_of_an_unsigned_image_that_a_policy_is_about() {
    let dir = tempfile::tempdir().unwrap();
    write_layout(dir.path(), &Image::of("imported", 1000));
    let import = ["image", "import", dir.path().to_str().unwrap(), "--name", "app:1"];
    for (pattern, warns) in [("ipfs/*", true), ("team/*", false)] {
        let node = Policed::about(pattern, &[]);
        let said = node.node().command(&import);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(said.stderr.contains("is not served: policy 1"), warns, "{pattern}: {said:?}");
    }
}
