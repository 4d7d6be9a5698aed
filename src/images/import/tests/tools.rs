//! What tools write, imported: names, tags, referrers.

use serde_json::json;

use super::*;
use crate::images::{
    archive::tests::tools::{self, Files, IMAGE_NAME, REF_NAME},
    layout::Layouts,
};

struct Bed {
    _dir: tempfile::TempDir,
    content: Content,
}

impl Bed {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let content = content(dir.path()).await;
        Self { _dir: dir, content }
    }

    async fn try_import(
        &self,
        files: &Files,
        name: Option<&str>,
    ) -> Result<(Vec<Imported>, Vec<String>), Error> {
        let name = name.map(|name| archive::split(name).unwrap());
        let options = Options { name, ..options(ImportFormat::Layout, Profile::UnixfsV1) };
        let source = ArchiveSource::stream("the stream", Cursor::new(tar(files)));
        import(&self.content, source, options, Box::new(|_| {})).await
    }

    /// The references without their roots, and the warnings.
    async fn import(&self, files: &Files, name: Option<&str>) -> (Vec<String>, Vec<String>) {
        let (images, warnings) = self.try_import(files, name).await.unwrap();
        for image in &images {
            self.pull(image).await;
        }
        let short = |image: &Imported| image.reference.splitn(3, '/').nth(2).unwrap().to_string();
        (images.iter().map(short).collect(), warnings)
    }

    async fn layout(&self, image: &Imported) -> crate::images::layout::Layout {
        let path = image.reference.strip_prefix("ipfs/").unwrap();
        let path = path.split('@').next().unwrap();
        let path = match path.rsplit_once(':') {
            Some((path, _)) => path,
            None => path,
        };
        let at: CidPath = path.parse().unwrap();
        Layouts::new(1 << 20).read(&self.content, &at, None).await.unwrap()
    }

    /// Holds that an image is found by its digest, and by its tag where it has one.
    async fn pull(&self, image: &Imported) {
        let layout = self.layout(image).await;
        let blob = layout.files.blob(&self.content, &image.top.digest).await.unwrap();
        assert_eq!(blob.unwrap().size, image.top.size, "{}", image.reference);
        if let Some((_, tag)) = image.reference.rsplit_once(':').filter(|_| !image.reference.contains('@')) {
            let document = layout.tagged(&self.content, &tag.parse().unwrap()).await.unwrap().unwrap();
            assert_eq!(document.digest, image.top.digest);
        }
    }

    /// The artifact types of what refers to `subject`.
    async fn referrers(&self, image: &Imported, subject: &Digest) -> Vec<String> {
        let layout = self.layout(image).await;
        let found = layout.referrers(&self.content, subject, "").await.unwrap().found;
        found.iter().map(|found| found.artifact_type.as_ref().unwrap().to_string()).collect()
    }

    async fn tags(&self, image: &Imported) -> Vec<String> {
        let tags = self.layout(image).await.tags(&self.content).await.unwrap();
        tags.iter().map(Tag::to_string).collect()
    }
}

#[tokio::test]
async fn referrers_of_an_oras_layout_stay_untagged_and_are_listed_by_the_api() {
    let bed = Bed::new().await;
    for name in [None, Some("mine"), Some("mine:2")] {
        let (files, manifest) = tools::oras(2);
        let (images, warnings) = bed.try_import(&files, name).await.unwrap();
        assert_eq!((images.len(), warnings), (1, vec![]), "a referrer is not an image");
        let mut found = bed.referrers(&images[0], &Digest::sha256_of(&manifest)).await;
        found.sort();
        assert_eq!(found, ["application/vnd.sbom0", "application/vnd.sbom1"]);
        let tag = if name == Some("mine:2") { "2" } else { "v1" };
        assert_eq!(bed.tags(&images[0]).await, [tag]);
        bed.pull(&images[0]).await;
    }
}

#[tokio::test]
async fn referrers_under_fallback_tags_and_unlisted_ones_are_listed_by_the_api() {
    let bed = Bed::new().await;
    for (files, manifest) in [tools::regctl(), tools::cosign_bundle()] {
        let (images, warnings) = bed.try_import(&files, None).await.unwrap();
        assert_eq!((images.len(), warnings), (1, vec![]));
        let found = bed.referrers(&images[0], &Digest::sha256_of(&manifest)).await;
        assert_eq!(found.len(), 1, "{found:?}");
    }
    let (files, manifest) = tools::regctl();
    let (images, _) = bed.try_import(&files, Some("mine:2")).await.unwrap();
    let fallback = format!("sha256-{}", Digest::sha256_of(&manifest).hex());
    assert_eq!(bed.tags(&images[0]).await, ["2".to_string(), fallback]);
}

#[tokio::test]
async fn signatures_of_cosign_save_get_the_tags_that_cosign_looks_for() {
    let bed = Bed::new().await;
    for (written, name, expected) in [
        (None, None, "image:latest"),
        (None, Some("mine:1"), "mine:1"),
        (Some("ghcr.io/org/app:1.0"), None, "org/app:1.0"),
        (Some("ghcr.io/org/app:1.0"), Some("mine"), "mine:1.0"),
        (Some("ghcr.io/org/app@sha256:abc"), Some("mine:1"), "mine:1"),
    ] {
        let (files, manifest) = tools::cosign(written);
        let (references, warnings) = bed.import(&files, name).await;
        assert_eq!((references, warnings), (vec![expected.to_string()], vec![]));
        let (images, _) = bed.try_import(&files, name).await.unwrap();
        let hex = Digest::sha256_of(&manifest).hex();
        let tag = expected.rsplit_once(':').unwrap().1;
        let mut tags = [tag.to_string(), format!("sha256-{hex}.att"), format!("sha256-{hex}.sig")];
        tags.sort();
        assert_eq!(bed.tags(&images[0]).await, tags);
    }
}

#[tokio::test]
async fn several_images_without_a_tag_are_imported_and_pulled_by_digest() {
    let bed = Bed::new().await;
    for (name, repository) in [(None, "image"), (Some("foo"), "foo"), (Some("foo:1"), "foo")] {
        let (references, warnings) = bed.import(&tools::crane_oci(2), name).await;
        assert!(
            references.iter().all(|it| it.starts_with(&format!("{repository}@sha256:"))),
            "{references:?}"
        );
        assert_eq!(references.len(), 2);
        assert_eq!(warnings, ["2 images of the archive have no tag: pull them by digest"]);
    }
    assert_eq!(bed.import(&tools::crane_oci(1), None).await.0, ["image:latest"]);
    assert_eq!(bed.import(&tools::crane_oci(1), Some("foo:1")).await.0, ["foo:1"]);
    assert_eq!(bed.import(&tools::docker_by_digest([None, None]), None).await.0.len(), 2);
    let files = tools::docker_by_digest([Some("foo:1"), None]);
    let (references, _) = bed.import(&files, Some("bar:2")).await;
    assert_eq!(references[0], "bar:2");
    assert!(references[1].starts_with("bar@sha256:"), "{references:?}");
}

#[tokio::test]
async fn names_that_are_invalid_are_mapped_or_ignored_and_the_given_name_wins() {
    let bed = Bed::new().await;
    let digest = format!("@sha256:{}", "0".repeat(64));
    for (annotations, expected, warning) in [
        (json!({ REF_NAME: "1.0.0+git1" }), "image:1.0.0_git1", "the tag becomes 1.0.0_git1"),
        (json!({ REF_NAME: "MyApp:1" }), "image:1", "the repository is ignored"),
        (json!({ REF_NAME: digest }), "image:latest", ""),
        (json!({ IMAGE_NAME: "docker.io/library/foo:1", REF_NAME: "1" }), "foo:1", ""),
        (json!({ IMAGE_NAME: format!("docker.io/library/foo{digest}") }), "foo:latest", ""),
    ] {
        let files = tools::named(annotations);
        let (references, warnings) = bed.import(&files, None).await;
        assert_eq!(references, [expected]);
        assert!(
            warnings.concat().contains(warning) && warnings.is_empty() == warning.is_empty(),
            "{warnings:?}"
        );
        assert_eq!(bed.import(&files, Some("app:1")).await, (vec!["app:1".into()], vec![]));
    }
    let files = classic(&[layer("a", 100)], &["<none>:<none>"]);
    assert_eq!(bed.import(&files, None).await, (vec!["image:latest".into()], vec![]));
}

#[tokio::test]
async fn names_that_collide_without_their_registry_keep_it() {
    let bed = Bed::new().await;
    let collided = |names: [&str; 2]| {
        let (mut blobs, one) = tools::small("one");
        let (files, two) = tools::small("two");
        blobs.extend(files);
        let entries = [(one, names[0]), (two, names[1])]
            .map(|(it, name)| tools::entry(&it, json!({ IMAGE_NAME: name })));
        tools::layout(blobs, &entries)
    };
    for (names, expected) in [
        (["docker.io/org/app:1", "ghcr.io/org/app:1"], ["docker.io/org/app:1", "ghcr.io/org/app:1"]),
        (["org/app:1", "localhost:5000/org/app:1"], ["org/app:1", "localhost_5000/org/app:1"]),
        (["docker.io/org/app:1", "ghcr.io/org/app:2"], ["org/app:1", "org/app:2"]),
    ] {
        assert_eq!(bed.import(&collided(names), None).await, (expected.map(String::from).to_vec(), vec![]));
    }
    let files = collided(["docker.io/org/app:1", "docker.io/org/app:1"]);
    let error = bed.try_import(&files, None).await.unwrap_err().to_string();
    assert_eq!(error, "the archive has two images for org/app:1");
    let error = bed.try_import(&collided(["a:1", "b:2"]), Some("c:3")).await.unwrap_err().to_string();
    assert_eq!(error, "the tag 3 cannot be given to 2 images of the archive");
}

#[tokio::test]
async fn a_buildx_archive_keeps_its_attestation() {
    let bed = Bed::new().await;
    let (files, index) = tools::buildx();
    let (images, warnings) = bed.try_import(&files, None).await.unwrap();
    assert_eq!((images.len(), warnings), (1, vec![]));
    assert_eq!(images[0].top.digest, Digest::sha256_of(&index));
    assert!(images[0].reference.ends_with("/org/built:1.0"));
    bed.pull(&images[0]).await;
}

#[tokio::test]
async fn an_attestation_names_the_manifest_whose_layers_became_estargz() {
    let bed = Bed::new().await;
    let (files, before) = tools::buildx();
    let options = Options { estargz: true, ..options(ImportFormat::Layout, Profile::UnixfsV1) };
    let source = ArchiveSource::stream("the stream", Cursor::new(tar(&files)));
    let (images, warnings) = import(&bed.content, source, options, Box::new(|_| {})).await.unwrap();
    assert_eq!((images.len(), warnings), (1, vec![]));
    let top = &images[0].top.digest;
    assert_ne!(*top, Digest::sha256_of(&before));
    let blob = async |digest: &Digest| {
        let path = format!("{}/org/built/{}", images[0].cid, archive::blob_path(digest));
        read(&bed.content, &path).await
    };
    let index = ocipfs_oci::Index::parse(&blob(top).await).unwrap();
    let [image, attestation] = &index.manifests[..] else { panic!("{index:?}") };
    let attested = attestation.annotation("vnd.docker.reference.digest");
    assert_eq!(attested, Some(&*image.digest.to_string()));
    assert_eq!(image.platform.as_ref().unwrap().to_string(), "linux/amd64");
    let manifest = ocipfs_oci::Manifest::parse(&blob(&image.digest).await).unwrap();
    assert!(manifest.layers[0].annotation("containerd.io/snapshot/stargz/toc.digest").is_some());
    bed.pull(&images[0]).await;
}

#[tokio::test]
async fn other_forms_than_a_layout_leave_referrers_out_with_a_warning() {
    let bed = Bed::new().await;
    let (files, _) = tools::oras(1);
    for form in [ImportFormat::Descriptor, ImportFormat::Dockerized] {
        let source = ArchiveSource::stream("the stream", Cursor::new(tar(&files)));
        let options = options(form, Profile::UnixfsV1);
        let (images, warnings) = import(&bed.content, source, options, Box::new(|_| {})).await.unwrap();
        assert_eq!(images.len(), 1);
        assert!(warnings[0].contains("only --as layout has them"), "{warnings:?}");
    }
}

#[tokio::test]
async fn a_file_its_compressed_form_and_a_stream_have_the_same_cid() {
    let bed = Bed::new().await;
    let bytes = tar(&tools::crane_oci(1));
    let mut found = Vec::new();
    for (name, bytes) in [
        ("huge.oci.tar", bytes.clone()),
        ("other.tar.xz", tools::xz(&bytes, 1)),
        ("third.tar.bz2", tools::bzip2(&bytes)),
    ] {
        let path = bed._dir.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        for source in
            [ArchiveSource::open(&path).unwrap(), ArchiveSource::stream("the stream", Cursor::new(bytes))]
        {
            let options = options(ImportFormat::Layout, Profile::UnixfsV1);
            let (images, _) = import(&bed.content, source, options, Box::new(|_| {})).await.unwrap();
            found.push(images[0].reference.clone());
        }
    }
    found.dedup();
    assert_eq!(found.len(), 1, "{found:?}");
}

#[tokio::test]
async fn referrers_go_to_the_repository_that_the_archive_says() {
    let bed = Bed::new().await;
    let (mut blobs, manifest) = tools::small("shared");
    let (files, sbom) = tools::referrer(&manifest, "application/vnd.sbom");
    blobs.extend(files);
    // It comes before what it is about.
    let (files, signed) = tools::referrer(&sbom, "application/vnd.signature");
    blobs.extend(files);
    let image =
        |name: &str| tools::entry(&manifest, json!({ IMAGE_NAME: format!("docker.io/org/{name}:1") }));
    let about = |it: &[u8], repository: &str| tools::entry(it, json!({ "io.ocipfs.repository": repository }));
    for (given, expected) in [("org/b", [0, 1]), ("nowhere", [1, 1]), ("org/b/blobs", [1, 1])] {
        let entries = [image("a"), image("b"), about(&signed, given), about(&sbom, given)];
        let (images, warnings) = bed.try_import(&tools::layout(blobs.clone(), &entries), None).await.unwrap();
        assert_eq!((images.len(), warnings), (2, vec![]), "{given}");
        for (image, count) in images.iter().zip(expected) {
            for subject in [&manifest, &sbom] {
                let found = bed.referrers(image, &Digest::sha256_of(subject)).await;
                assert_eq!(found.len(), count, "{given}: {}", image.reference);
            }
        }
    }
}
