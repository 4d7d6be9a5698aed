//! Exports of generated images, imported at another node.

mod model;

use std::collections::{BTreeMap, BTreeSet};

use ocipfs_oci::{Digest, Reference};
use proptest::{prelude::*, test_runner::TestRunner};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::mpsc::unbounded_channel};

use super::*;
use crate::{
    control::{Destination, ImageRequest, ImportOptions, Options, Reply, Request},
    images::{
        archive::{
            ArchiveSource,
            tests::{
                tar,
                tools::{self, unpack},
            },
        },
        export::Dest,
        pack::inspect::Compression,
    },
};
use model::{Model, model};

/// A node without a swarm.
struct Bed {
    dir: TempDir,
    instance: Instance,
}

/// What a repository serves: its tags, and what refers to each of its manifests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Served {
    tags: BTreeMap<String, Digest>,
    referrers: BTreeMap<Digest, BTreeSet<Digest>>,
}

impl Bed {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::open(Options::alone(dir.path().join("node")));
        Self { instance: instance.await.unwrap(), dir }
    }

    async fn ask(
        &self,
        request: ImageRequest,
        attachment: Attachment,
    ) -> Result<(ImageReply, Vec<String>), Failure> {
        let (notes, mut told) = unbounded_channel();
        let reply = self.instance.handle_with(Request::Image(request), attachment.into(), notes).await?;
        let mut warnings = Vec::new();
        while let Ok(note) = told.try_recv() {
            warnings.extend(match note {
                Note::Warning(text) => Some(text),
                _ => None,
            });
        }
        match reply {
            Reply::Image(reply) => Ok((reply, warnings)),
            _ => panic!("another reply"),
        }
    }

    /// The references of the imported images.
    async fn import(&self, path: &Path) -> Result<Vec<String>, Failure> {
        let source = ArchiveSource::open(path).unwrap();
        let options = ImportOptions {
            name: None,
            form: "layout".into(),
            compress: None,
            estargz: false,
            profile: None,
            registry: None,
        };
        let request = ImageRequest::Import { options };
        match self.ask(request, Attachment::Archive(source)).await? {
            (ImageReply::Imported { images }, _) => {
                Ok(images.into_iter().map(|image| image.reference).collect())
            }
            _ => panic!("another reply"),
        }
    }

    async fn export(
        &self,
        references: &[String],
        name: &str,
        referrers: bool,
    ) -> Result<(Vec<crate::control::ExportedImage>, Vec<String>), Failure> {
        let (references, dest) = (references.to_vec(), self.dir.path().join(name));
        let place = match Format::of(&dest, None).unwrap() {
            (Format::Oci, _) => Dest::Folder(dest.clone()),
            (_, compression) => Dest::File(dest.clone(), compression),
        };
        let attachment = to(&dest, place);
        let request = ImageRequest::Export { references, dest, format: None, referrers };
        match self.ask(request, attachment).await? {
            (ImageReply::Exported { images, .. }, warnings) => Ok((images, warnings)),
            _ => panic!("another reply"),
        }
    }

    /// Exports all of it, imports that at another node, and gives the root there.
    async fn pass_on(&self, references: &[String], name: &str, to: &Self) -> String {
        self.export(references, name, true).await.unwrap();
        let there = to.import(&self.dir.path().join(name)).await.unwrap();
        remove(&self.dir.path().join(name));
        root(&there[0])
    }

    /// What a repository below a root serves; each of its manifests is asked for its referrers.
    async fn served(&self, root: &str, name: &str, manifests: &BTreeSet<Digest>) -> Served {
        let kind = NameKind::parse(&format!("{root}/{name}")).unwrap();
        let resolver = self.instance.resolver();
        let mut served = Served::default();
        for tag in kind.tags(resolver).await.unwrap() {
            let found = kind.manifest(resolver, &Reference::Tag(tag.clone())).await.unwrap();
            served.tags.insert(tag.to_string(), found.digest);
        }
        for digest in manifests {
            let found = kind.referrers(resolver, digest, "").await.unwrap().found;
            let found: BTreeSet<Digest> = found.into_iter().map(|found| found.digest).collect();
            if !found.is_empty() {
                served.referrers.insert(digest.clone(), found);
            }
        }
        served
    }

    /// Holds that a repository has these blobs, each with its bytes.
    async fn has(&self, root: &str, name: &str, blobs: &BTreeMap<Digest, Vec<u8>>) {
        let kind = NameKind::parse(&format!("{root}/{name}")).unwrap();
        for (digest, bytes) in blobs {
            let Ok(BlobSource::Blob(blob)) = kind.locate_blob(self.instance.resolver(), digest).await else {
                panic!("{name} lacks {digest}");
            };
            let found = self.instance.content().read_blob(&blob, 1 << 20).await.unwrap();
            assert!(found == bytes[..], "{digest} of {name}");
        }
    }

    /// The digests of all files of a root.
    async fn digests(&self, root: &str) -> BTreeSet<Digest> {
        let cid = root.strip_prefix("ipfs/").unwrap().parse().unwrap();
        let gc_root = self.instance.content().gc_root(&cid).await.unwrap().unwrap();
        gc_root.blobs.into_iter().map(|(digest, _)| digest).collect()
    }
}

fn to(path: &Path, dest: Dest) -> Attachment {
    Attachment::Export(Destination {
        path: path.into(),
        create: Box::new(move || ExportTarget::create(dest)),
    })
}

/// `ipfs/<cid>` of a reference.
fn root(reference: &str) -> String {
    let path: Vec<&str> = reference.split('/').collect();
    format!("ipfs/{}", path[2])
}

fn remove(path: &Path) {
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// Exports the generated images, and holds that the other node serves the same afterwards.
async fn is_identity(source: &Bed, target: &Bed, model: &Model, form: &str) {
    let folder = source.dir.path().join("generated");
    unpack(&folder, &model.layout());
    let references = source.import(&folder).await.unwrap();
    remove(&folder);
    let here = root(&references[0]);
    let there = source.pass_on(&references, &format!("archive{form}"), target).await;
    let mut all = BTreeSet::new();
    for repository in &model.repositories {
        let manifests = repository.manifests();
        let expected = source.served(&here, &repository.name, &manifests).await;
        assert!(repository.tags().is_subset(&expected.tags.keys().cloned().collect()), "{expected:?}");
        assert_eq!(expected.referrers, repository.referrers(), "the source serves the generated images");
        assert_eq!(target.served(&there, &repository.name, &manifests).await, expected);
        target.has(&there, &repository.name, &repository.blobs).await;
        all.extend(repository.blobs.keys().cloned());
    }
    let found = target.digests(&there).await;
    // Beside them there are an index for each repository and the mark of a layout.
    assert_eq!(found.difference(&all).count(), model.repositories.len() + 1);
}

/// How many archives are generated.
fn runs() -> u32 {
    std::env::var("OCIPFS_TEST_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(24)
}

#[test]
fn export_and_import_keep_all_digests_tags_and_referrers() {
    let runtime = Runtime::new().unwrap();
    let (source, target) = runtime.block_on(async { (Bed::open().await, Bed::open().await) });
    let forms = prop::sample::select(vec!["", ".oci.tar", ".tar", ".tar.gz", ".oci.tar.zst"]);
    let config = ProptestConfig { cases: runs(), failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&(model(), forms), |(model, form)| {
        runtime.block_on(is_identity(&source, &target, &model, form));
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test]
async fn an_export_without_referrers_has_the_images_alone() {
    let (source, target) = (Bed::open().await, Bed::open().await);
    let model = Model::signed();
    let folder = source.dir.path().join("generated");
    unpack(&folder, &model.layout());
    let references = source.import(&folder).await.unwrap();
    let (images, _) = source.export(&references, "all.tar", true).await.unwrap();
    assert_eq!(images[0].referrers, 3);
    let (images, _) = source.export(&references, "alone.tar", false).await.unwrap();
    assert_eq!(images[0].referrers, 0);
    let there = root(&target.import(&source.dir.path().join("alone.tar")).await.unwrap()[0]);
    let repository = &model.repositories[0];
    let served = target.served(&there, &repository.name, &repository.manifests()).await;
    assert!(served.tags.len() == 1 && served.referrers.is_empty(), "{served:?}");
}

#[tokio::test]
async fn renaming_an_image_keeps_its_signatures_and_referrers() {
    let bed = Bed::open().await;
    let model = Model::signed();
    let folder = bed.dir.path().join("generated");
    unpack(&folder, &model.layout());
    let reference = bed.import(&folder).await.unwrap().remove(0);
    let repository = &model.repositories[0];
    let before = bed.served(&root(&reference), &repository.name, &repository.manifests()).await;
    assert_eq!((before.tags.len(), before.referrers.len()), (2, 2));
    let request = ImageRequest::Tag { reference: reference.clone(), name: "other:2".into() };
    let (ImageReply::Imported { images }, _) = bed.ask(request, Attachment::Nothing).await.unwrap() else {
        panic!()
    };
    // It does not need the first root.
    let request = ImageRequest::Rm { reference };
    bed.ask(request, Attachment::Nothing).await.unwrap();
    let mut expected = before;
    let image = expected.tags.remove("1.0").unwrap();
    expected.tags.insert("2".into(), image);
    let there = root(&images[0].reference);
    assert_eq!(bed.served(&there, "other", &repository.manifests()).await, expected);
    bed.has(&there, "other", &repository.blobs).await;
}

#[tokio::test]
async fn two_images_of_one_name_are_not_exported_together() {
    let bed = Bed::open().await;
    let mut references = Vec::new();
    for seed in ["one", "two"] {
        let (blobs, manifest) = tools::small(seed);
        let entry = tools::entry(
            &manifest,
            serde_json::json!({ "io.containerd.image.name": "docker.io/library/app:1" }),
        );
        let path = bed.dir.path().join(seed);
        std::fs::write(&path, tar(&tools::layout(blobs, &[entry]))).unwrap();
        references.extend(bed.import(&path).await.unwrap());
    }
    let failure = bed.export(&references, "both.tar", true).await.unwrap_err();
    assert_eq!(failure.message, "two of the images would be app:1 in the archive");
    assert!(!bed.dir.path().join("both.tar").exists());
    // The same image twice is one.
    bed.export(&[references[0].clone(), references[0].clone()], "one.tar", true).await.unwrap();
    assert_eq!(bed.import(&bed.dir.path().join("one.tar")).await.unwrap(), references[..1]);
}

#[tokio::test]
async fn docker_archives_warn_of_what_docker_cannot_load() {
    let bed = Bed::open().await;
    for (model, told) in [
        (Model::cache(), "it is not an image with a configuration and layers"),
        (Model::foreign(), "a layer that is not distributed with it"),
    ] {
        let folder = bed.dir.path().join("generated");
        unpack(&folder, &model.layout());
        let references = bed.import(&folder).await.unwrap();
        remove(&folder);
        let (_, warnings) = bed.export(&references, "some.tar", true).await.unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains(told), "{warnings:?}");
        remove(&bed.dir.path().join("some.tar"));
        let (_, warnings) = bed.export(&references, "some.oci.tar", true).await.unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        remove(&bed.dir.path().join("some.oci.tar"));
    }
    let dest = bed.dir.path().join("given");
    let attachment = to(&dest, Dest::File(dest.clone(), Compression::None));
    let request = ImageRequest::Export {
        references: vec![root_of(&bed, &Model::cache()).await],
        dest,
        format: Some("docker-archive".into()),
        referrers: true,
    };
    let failure = bed.ask(request, attachment).await.unwrap_err();
    assert!(!bed.dir.path().join("given").exists());
    assert!(failure.hint.unwrap().contains("oci-archive"), "{}", failure.message);
}

async fn root_of(bed: &Bed, model: &Model) -> String {
    let folder = bed.dir.path().join("generated");
    unpack(&folder, &model.layout());
    let reference = bed.import(&folder).await.unwrap().remove(0);
    remove(&folder);
    reference
}
