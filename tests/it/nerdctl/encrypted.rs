//! Encrypted images pass through nodes unchanged.

use libtest_mimic::Trial;

use super::{HELLO, daemon, daemon_beside, load, nerdctl, push, run};
use crate::{
    clients::Nerdctl,
    harness::{blocking, trials},
    http::get,
};

pub fn trials() -> Vec<Trial> {
    trials![needs Nerdctl::available(); an_encrypted_image_is_pulled_through_another_node_and_decrypted]
}

async fn an_encrypted_image_is_pulled_through_another_node_and_decrypted() {
    let source = daemon(&[]);
    let node = daemon_beside(&source);
    let registry = node.url("");
    let cid = blocking(move || {
        let pushing = nerdctl(&source);
        load(&pushing);
        let (private, public) = (pushing.path("key.pem"), pushing.path("public.pem"));
        pushing.beside(&["openssl", "genrsa", "-out", &private]).unwrap();
        pushing.beside(&["openssl", "rsa", "-in", &private, "-pubout", "-out", &public]).unwrap();
        let recipient = format!("--recipient=jwe:{public}");
        pushing.run(&["image", "encrypt", &recipient, "trial:1", "trial:encrypted"]).unwrap();
        let cid = push(&pushing, &[], "trial:encrypted");
        let pulling = nerdctl(&node);
        let image = format!("ipfs://{cid}");
        pulling.run(&["pull", "-q", "--unpack=false", &image]).unwrap();
        let key = format!("--key={private}");
        pulling.run(&["image", "decrypt", &key, &image, "trial:decrypted"]).unwrap();
        assert_eq!(run(&pulling, "trial:decrypted", &[]), HELLO);
        // The same by a registry.
        let pushed = format!("{}/team/encrypted:1", node.registry());
        pushing.run(&["tag", "trial:encrypted", &pushed]).unwrap();
        pushing.run(&["push", "-q", &pushed]).unwrap();
        pulling.run(&["pull", "-q", "--unpack=false", &pushed]).unwrap();
        pulling.run(&["image", "decrypt", &key, &pushed, "trial:again"]).unwrap();
        assert_eq!(run(&pulling, "trial:again", &[]), HELLO);
        (cid, source, node)
    });
    let (cid, _source, _node) = cid.await;
    // The registry gives the same: layers with the media type and the annotations of encryption, and their bytes.
    let manifest = get(&format!("{registry}/v2/ipfs/{cid}/manifests/latest")).await.json();
    let manifest = match manifest["manifests"][0]["digest"].as_str() {
        Some(digest) => get(&format!("{registry}/v2/ipfs/{cid}/manifests/{digest}")).await.json(),
        None => manifest,
    };
    for layer in manifest["layers"].as_array().expect("layers") {
        let media_type = layer["mediaType"].as_str().unwrap();
        assert!(media_type.ends_with("+encrypted"), "{layer}");
        let annotations = layer["annotations"].as_object().unwrap();
        assert!(annotations.contains_key("org.opencontainers.image.enc.keys.jwe"), "{layer}");
        let digest = layer["digest"].as_str().unwrap();
        let blob = get(&format!("{registry}/v2/ipfs/{cid}/blobs/{digest}")).await;
        assert_eq!(ocipfs_oci::Digest::sha256_of(&blob.body).to_string(), digest);
    }
}
