//! A tag in a layout of ten thousand: on a node that knows the layout, and once more when the peer that had it is gone.

use std::{fs, path::PathBuf};

use ocipfs_oci::Digest;
use serde_json::{Value, json};

use super::{
    Room,
    turns::{Contender, Taken, in_turns},
};
use crate::{
    Failure,
    client::Url,
    report::{Row, Series, Target},
    server::{Ocipfs, Serve},
};

const TAGS: usize = 10_000;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub fn run(room: &Room) -> Result<(), Failure> {
    let source = Ocipfs::start(room, &Serve::default())?;
    let (layout, digests) = layout(room)?;
    let name = source.import(&layout.to_string_lossy())?;
    let node = Ocipfs::connected_to(room, &[source.address()])?;
    let pull = || pull(&node, &name, &digests);
    let cold = pull()?;
    let number = std::cell::Cell::new(0);
    let tag = || {
        // Another each time.
        number.set((number.get() + 7919) % TAGS);
        ms(&node.at_name(&name, &format!("manifests/v{}", number.get())))
    };
    let rounds = room.plan.rounds.max(100);
    let series = in_turns(room, rounds, vec![Contender::in_unit("ms", "ocipfs", || tag().map(Taken::new))]);
    let row = Row::new("resolve", format!("a tag of {TAGS} in a layout that is known"), series);
    let found = row.values("ocipfs").to_vec();
    room.show(row.check("warm", "ms", &found, Target::at_most(5.0)));
    drop(source);
    let before = node.status()?.received_blocks.unwrap_or_default();
    let mut series =
        [Series::new("ocipfs, again without the peer", "ms"), Series::new("ocipfs, first", "ms")];
    (0..room.plan.rounds).try_for_each(|_| pull().map(|took| series[0].push(took)))?;
    series[1].push(cold);
    let asked = node.status()?.received_blocks.unwrap_or_default() - before;
    let row = Row::new("resolve", "manifest, configuration and layer of an image by its tag", series.into());
    room.show(row.check("blocks received again", "", &[asked as f64], Target::at_most(0.0)));
    Ok(())
}

/// Pulls an image as clients do; how long it took.
fn pull(node: &Ocipfs, name: &str, digests: &[Digest]) -> Result<f64, Failure> {
    let mut took = ms(&node.at_name(name, "manifests/v1"))?;
    for digest in digests {
        took += ms(&node.at_name(name, &format!("blobs/{digest}")))?;
    }
    Ok(took)
}

fn ms(url: &Url) -> Result<f64, Failure> {
    Ok(url.timed()?.2.as_secs_f64() * 1e3)
}

/// Writes a layout of one image that has all the tags; its folder, and the digests of the image's blobs.
fn layout(room: &Room) -> Result<(PathBuf, Vec<Digest>), Failure> {
    let folder = room.new_dir("layout")?;
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let put = |media_type: &str, bytes: &[u8]| -> Result<Value, Failure> {
        let digest = Digest::sha256_of(bytes);
        fs::write(blobs.join(digest.hex()), bytes)?;
        Ok(json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() }))
    };
    let (tar, diff_id) = room.new_tar(1)?;
    let layer = put("application/vnd.oci.image.layer.v1.tar", &fs::read(tar)?)?;
    let rootfs = json!({ "type": "layers", "diff_ids": [diff_id.to_string()] });
    let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": rootfs }).to_string();
    let config_digest = Digest::sha256_of(config.as_bytes());
    let config = put("application/vnd.oci.image.config.v1+json", config.as_bytes())?;
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    let manifest = put(MANIFEST, manifest.to_string().as_bytes())?;
    let entries = (0..TAGS).map(|n| {
        let mut entry = manifest.clone();
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": format!("v{n}") });
        entry
    });
    let index = json!({ "schemaVersion": 2, "manifests": entries.collect::<Vec<_>>() });
    fs::write(folder.join("index.json"), index.to_string())?;
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok((folder, vec![config_digest, diff_id]))
}
