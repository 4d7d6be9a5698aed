use bytes::Bytes;
use ocipfs_node::Node;

use super::*;
use crate::content::{BlobWriter, Entries, Profile, Root, Settings, Store, View, Viewer};

/// One who sees no repository.
struct Stranger;

impl Viewer for Stranger {
    fn sees(&self, _repository: &str) -> bool {
        false
    }

    fn sees_unsigned(&self, _repository: &str) -> bool {
        false
    }
}

/// Stores a file as a push does. Without a repository that holds it, it is for those who see everything.
fn pushed(content: &Content, bytes: &str) -> Root {
    let mut writer = BlobWriter::new(content.store(), Profile::UnixfsV1).unwrap();
    writer.write(Bytes::copy_from_slice(bytes.as_bytes())).unwrap();
    writer.store().unwrap().1
}

#[tokio::test]
async fn a_layout_that_one_viewer_read_is_not_told_to_another_who_may_not_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let (store, node) = (Store::open(dir.path()).unwrap(), Node::offline(dir.path()).unwrap());
    let content = Content::new(store, node, Settings::default()).unwrap();
    let _guard = content.gc_guard().await;
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":2,"annotations":{{"org.opencontainers.image.ref.name":"v1"}}}}]}}"#,
        Digest::sha256_of(b"{}")
    );
    let files = [("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", index.as_str())];
    let entries: Entries = files.map(|(name, bytes)| (name.to_owned(), pushed(&content, bytes))).into();
    let directory = Profile::UnixfsV1.options().directory_of(entries);
    let at = CidPath::from(directory.root.cid);
    content.put_document(directory).await.unwrap();
    let layouts = Layouts::new(1 << 20);
    let stranger = || View::of(Some(Arc::new(Stranger)));
    let all = layouts.read(&content, &at, None).await.unwrap();
    assert_eq!(all.tags(&content).await.unwrap(), ["v1".parse::<Tag>().unwrap()]);
    assert!(layouts.known(&content, &at, None).await.unwrap().is_some());
    assert!(stranger().scope(layouts.known(&content, &at, None)).await.unwrap().is_none());
    assert!(stranger().scope(layouts.read(&content, &at, None)).await.is_err());
    // What it could not read is still there for the others.
    assert!(layouts.known(&content, &at, None).await.unwrap().is_some());
}
