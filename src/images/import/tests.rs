mod known;
mod tools;

use std::io::Cursor;

use ocipfs_node::Node;

use super::*;
use crate::{
    content::{CidPath, Settings},
    images::archive::tests::{classic, layer, oci, tar},
};

async fn content(dir: &std::path::Path) -> Content {
    let store = Store::open(dir).unwrap();
    let node = Node::offline(dir).unwrap();
    Content::new(store, node, Settings::default()).unwrap()
}

fn options(form: ImportFormat, profile: Profile) -> Options {
    Options { form, compress: None, estargz: false, profile, name: None }
}

async fn imported(content: &Content, bytes: Vec<u8>, options: Options) -> Result<Vec<Imported>, Error> {
    let source = ArchiveSource::stream("the stream", Cursor::new(bytes));
    Ok(import(content, source, options, Box::new(|_| {})).await?.0)
}

fn archive() -> Vec<u8> {
    tar(&classic(&[layer("a", 3 << 20), layer("b", 100)], &["foo:1.0"]))
}

#[tokio::test]
async fn the_cid_of_each_import_format_is_stable() {
    let mut found = Vec::new();
    for form in [ImportFormat::Layout, ImportFormat::Descriptor, ImportFormat::Dockerized] {
        for profile in [Profile::UnixfsV1, Profile::Legacy] {
            let dir = tempfile::tempdir().unwrap();
            let content = content(dir.path()).await;
            let images = imported(&content, archive(), options(form, profile)).await.unwrap();
            let again = imported(&content, archive(), options(form, profile)).await.unwrap();
            assert_eq!(again, images);
            found.push(images[0].reference.clone());
        }
    }
    let golden = [
        "ipfs/bafybeie5gxyghenjt4qbro5gsnmmljrh4mmq62csrmyrzadm3mxkufz2gm/foo:1.0",
        "ipfs/bafybeid75cwmlzlese3vpt4dexal43dziibnl2imhq4uxdipmfouhk3f7q/foo:1.0",
        "ipfs/bafkreifoxpzwl4r6dmpgwpv2jfre6y33m2uyhzycgkbiixei3ykgutoczq",
        "ipfs/bafybeibqznhxkbirmftgl6j4cyj4dst4liupua5v6goo4ybwshpc224xd4",
        "ciqp5ei7x2jgfjlan67ekn24vxddtwqjmd3zgs2nnjwp5bztnwxvcky/foo:latest",
        "ciqia6cxrprziurat7oj42u7fgdbm67iqwitd4ercxoydpiysfyudna/foo:latest",
    ];
    assert_eq!(found, golden);
}

async fn read(content: &Content, path: &str) -> Vec<u8> {
    content.read(&path.parse::<CidPath>().unwrap(), 1 << 30).await.unwrap().to_vec()
}

#[tokio::test]
async fn an_imported_layout_is_read_by_path_and_removed_with_all_its_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(dir.path()).await;
    let before = content.store_stat().await.unwrap();
    let images =
        imported(&content, archive(), options(ImportFormat::Layout, Profile::UnixfsV1)).await.unwrap();
    let Imported { cid, top, size, .. } = &images[0];
    let root = format!("{cid}/foo");
    assert_eq!(read(&content, &format!("{root}/oci-layout")).await, br#"{"imageLayoutVersion":"1.0.0"}"#);
    let index = read(&content, &format!("{root}/index.json")).await;
    let index = ocipfs_oci::Index::parse(&index).unwrap();
    assert_eq!(index.manifests[0].digest, top.digest);
    assert_eq!(index.manifests[0].annotation("org.opencontainers.image.ref.name"), Some("1.0"));
    let manifest = read(&content, &format!("{root}/{}", archive::blob_path(&top.digest))).await;
    let manifest = ocipfs_oci::Manifest::parse(&manifest).unwrap();
    let mut sum = top.size;
    for blob in manifest.blobs() {
        let bytes = read(&content, &format!("{root}/{}", archive::blob_path(&blob.digest))).await;
        assert_eq!(
            (ocipfs_oci::Digest::sha256_of(&bytes), bytes.len() as u64),
            (blob.digest.clone(), blob.size)
        );
        sum += blob.size;
    }
    assert_eq!(*size, sum);
    let gc_root = content.gc_root(cid).await.unwrap().unwrap();
    assert_eq!(gc_root.images[0].reference, format!("ipfs/{root}:1.0"));
    assert_eq!(
        gc_root.roots().len(),
        5,
        "the root, the manifest, the configuration and two layers are announced"
    );
    assert!(content.release(cid).await.unwrap());
    assert_eq!(content.store_stat().await.unwrap(), before);
}

#[tokio::test]
async fn each_url_of_a_descriptor_image_resolves_to_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(dir.path()).await;
    let images =
        imported(&content, archive(), options(ImportFormat::Descriptor, Profile::Legacy)).await.unwrap();
    let root: Descriptor = serde_json::from_slice(&read(&content, &images[0].cid.to_string()).await).unwrap();
    let follow = async |descriptor: &Descriptor| {
        let [url] = &descriptor.urls[..] else { panic!("{descriptor:?}") };
        let bytes = read(&content, url.strip_prefix("ipfs://").unwrap()).await;
        assert_eq!(ocipfs_oci::Digest::sha256_of(&bytes), descriptor.digest);
        bytes
    };
    let manifest = ocipfs_oci::Manifest::parse(&follow(&root).await).unwrap();
    for blob in manifest.blobs() {
        follow(blob).await;
    }
    assert!(content.release(&images[0].cid).await.unwrap());
    assert_eq!(content.store_stat().await.unwrap(), Default::default());
}

#[tokio::test]
async fn a_dockerized_image_has_a_docker_schema_2_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(dir.path()).await;
    let images =
        imported(&content, archive(), options(ImportFormat::Dockerized, Profile::Legacy)).await.unwrap();
    assert!(
        images[0].reference.starts_with("ciq") && images[0].reference.ends_with("/foo:latest"),
        "{images:?}"
    );
    let root = format!("{}/foo", images[0].cid);
    let manifest = read(&content, &format!("{root}/manifests/latest-v2")).await;
    let manifest = ocipfs_oci::Manifest::parse(&manifest).unwrap();
    assert_eq!(manifest.media_type.as_ref().unwrap(), &ocipfs_oci::media_type::DOCKER_MANIFEST);
    for blob in manifest.blobs() {
        let bytes = read(&content, &format!("{root}/blobs/{}", blob.digest)).await;
        assert_eq!(ocipfs_oci::Digest::sha256_of(&bytes), blob.digest);
    }
    let zstd =
        Options { compress: Some(Compress::Zstd), ..options(ImportFormat::Dockerized, Profile::Legacy) };
    let error = imported(&content, archive(), zstd).await.unwrap_err();
    assert!(matches!(error, Error::ImportFormat { .. }), "{error}");
}

#[tokio::test]
async fn several_images_of_an_archive_are_repositories_under_one_root() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(dir.path()).await;
    let bytes = tar(&classic(&[layer("a", 100)], &["foo:1.0", "foo:2.0", "org/foo:1.0", "foo/bar:1.0"]));
    let images =
        imported(&content, bytes.clone(), options(ImportFormat::Layout, Profile::UnixfsV1)).await.unwrap();
    let cid = images[0].cid;
    let references: Vec<_> = images.iter().map(|image| image.reference.clone()).collect();
    let expected =
        ["foo:1.0", "foo:2.0", "org/foo:1.0", "foo/bar:1.0"].map(|name| format!("ipfs/{cid}/{name}"));
    assert_eq!(references, expected);
    let blob = archive::blob_path(&images[0].top.digest);
    for name in ["foo", "org/foo", "foo/bar"] {
        let manifest =
            ocipfs_oci::Manifest::parse(&read(&content, &format!("{cid}/{name}/{blob}")).await).unwrap();
        let layer = archive::blob_path(&manifest.layers[0].digest);
        assert!(!read(&content, &format!("{cid}/{name}/{layer}")).await.is_empty());
    }
    let called = |name: &str| Options {
        name: Some(archive::split(name).unwrap()),
        ..options(ImportFormat::Layout, Profile::UnixfsV1)
    };
    let one = imported(&content, bytes.clone(), called("mine:3")).await.unwrap();
    assert!(one.len() == 1 && one[0].reference.ends_with("/mine:3"), "{one:?}");
    let tags = imported(&content, bytes, called("mine")).await.unwrap();
    assert_eq!(tags.len(), 2, "{tags:?}");
}

/// An image without referrers.
async fn only(content: &Content, image: &Imported) -> Tagged {
    let name = image.reference.strip_prefix("ipfs/").unwrap().rsplit_once(':').unwrap().0;
    let manifest = read(content, &format!("{name}/{}", archive::blob_path(&image.top.digest))).await;
    let documents = [(image.top.digest.clone(), manifest.into())].into();
    Tagged { top: image.top.clone(), documents, referrers: Vec::new() }
}

#[tokio::test]
async fn tagging_an_imported_image_makes_a_new_root() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(dir.path()).await;
    let bytes = tar(&oci(&[layer("a", 3 << 20)], ocipfs_oci::media_type::OCI_LAYER_TAR, &[]));
    let named = |name: &str| Options {
        name: Some(archive::split(name).unwrap()),
        ..options(ImportFormat::Layout, Profile::UnixfsV1)
    };
    let first = imported(&content, bytes.clone(), named("foo:1")).await.unwrap().remove(0);
    let gc_root = content.gc_root(&first.cid).await.unwrap().unwrap();
    let (name, wanted) = archive::split("bar:2").unwrap();
    let tagged = tag(&content, &gc_root, only(&content, &first).await, name, wanted.unwrap()).await.unwrap();
    assert_eq!(tagged.size, first.size);
    assert!(content.release(&first.cid).await.unwrap());
    // It is what an import under that name gives.
    let again = imported(&content, bytes, named("bar:2")).await.unwrap().remove(0);
    assert_eq!((again.reference, again.cid), (tagged.reference, tagged.cid));
    assert!(content.release(&tagged.cid).await.unwrap());
    assert_eq!(content.store_stat().await.unwrap(), Default::default());
}
