//! Progress of each long operation, as a command is told it.

use std::{fs, path::PathBuf};

use tempfile::TempDir;
use tokio::sync::mpsc::unbounded_channel;

use super::*;
use crate::{
    control::{
        BundleReply, BundleRequest, Destination, ImageReply, ImageRequest, ImportOptions, LayerRequest,
        Progress, RequestedImage, Source, StoreRequest, Unit,
    },
    images::{
        archive::ArchiveSource,
        bundle::import::BundleFile,
        export::{Dest, ExportTarget, PartsDest},
        input::Input,
        layer::LayerFile,
    },
};

/// A node without a swarm.
struct Bed {
    dir: TempDir,
    instance: Instance,
}

/// The phases of an operation: the first message of each, and the last one.
type Phases = Vec<(Progress, Progress)>;

impl Bed {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::open(Options::alone(dir.path().join("node")));
        Self { instance: instance.await.unwrap(), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Holds that each phase begins at nothing and ends with all of it.
    #[track_caller]
    fn check(phases: &Phases, expected: &[(&str, Unit)]) {
        let found: Vec<(&str, Unit)> =
            phases.iter().map(|(_, last)| (last.phase.as_str(), last.unit)).collect();
        assert_eq!(found, expected);
        for (first, last) in phases {
            assert_eq!((first.done, Some(last.done)), (0, last.total), "{first:?} {last:?}");
        }
    }

    async fn ask(&self, request: Request, attachment: Attachment) -> (Reply, Phases) {
        let (notes, mut told) = unbounded_channel();
        let reply = self.instance.handle_with(request, attachment.into(), notes).await.unwrap();
        let mut phases: Phases = Vec::new();
        while let Ok(note) = told.try_recv() {
            let Note::Progress(progress) = note else { continue };
            match phases.last_mut().filter(|(first, _)| first.phase == progress.phase) {
                Some((_, last)) => {
                    assert!(last.done <= progress.done, "{last:?} {progress:?}");
                    *last = progress;
                }
                None => phases.push((progress.clone(), progress)),
            }
        }
        (reply, phases)
    }

    async fn store(&self, request: StoreRequest) -> Phases {
        self.ask(Request::Store(request), Attachment::Nothing).await.1
    }

    fn destination(&self, name: &str, dest: impl FnOnce(PathBuf) -> Dest) -> Attachment {
        let (path, dest) = (self.path(name), dest(self.path(name)));
        Attachment::Export(Destination { path, create: Box::new(move || ExportTarget::create(dest)) })
    }

    /// Adds a layer of a folder, and imports an image of it.
    async fn fill(&self) -> String {
        let folder = self.path("rootfs");
        fs::create_dir_all(folder.join("etc")).unwrap();
        fs::write(folder.join("etc/data"), noise(3 << 20)).unwrap();
        let sources = vec![Source::Attached];
        let add = Request::Layer(LayerRequest::Add { sources, platform: None, profile: None });
        let (added, phases) =
            self.ask(add, Attachment::Layers(vec![LayerFile::open(&folder, 0).unwrap()])).await;
        Self::check(&phases, &[("add", Unit::Bytes)]);
        assert!(phases[0].1.done >= 3 << 20, "a folder is counted before it is compressed: {phases:?}");
        let Reply::Added(added) = added else { panic!("{added:?}") };
        added.reference
    }

    async fn export(&self, reference: &str, name: &str) {
        let request = ImageRequest::Export {
            references: vec![reference.into()],
            dest: self.path(name),
            format: Some("oci".into()),
            referrers: true,
        };
        let (_, phases) = self.ask(Request::Image(request), self.destination(name, Dest::Folder)).await;
        Self::check(&phases, &[("export", Unit::Bytes)]);
        assert!(phases[0].0.total.is_some(), "{phases:?}");
    }
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn import_options(form: &str, estargz: bool) -> ImportOptions {
    let (name, compress, profile, registry) = (Some("team/app:1".into()), None, None, None);
    ImportOptions { name, form: form.into(), compress, estargz, profile, registry }
}

#[tokio::test]
async fn layers_and_images_are_added_exported_and_converted_with_progress() {
    let bed = Bed::open().await;
    let reference = bed.fill().await;
    bed.export(&reference, "layout").await;
    // At another node, which has nothing of it.
    let other = Bed::open().await;
    for (form, has_blobs) in [("layout", false), ("descriptor", true)] {
        let source = ArchiveSource::open(&bed.path("layout")).unwrap();
        let import = Request::Image(ImageRequest::Import { options: import_options(form, false) });
        let (reply, phases) = other.ask(import, Attachment::Archive(source)).await;
        Bed::check(&phases, &[("import", Unit::Bytes)]);
        assert!(phases[0].1.done > 1000, "known blobs count, too ({has_blobs}): {phases:?}");
        let Reply::Image(ImageReply::Imported { images }) = reply else { panic!("{reply:?}") };
        let convert = ImageRequest::Convert {
            reference: images[0].reference.clone(),
            options: import_options("descriptor", true),
        };
        let (_, phases) = other.ask(Request::Image(convert), Attachment::Nothing).await;
        Bed::check(&phases, &[("import", Unit::Bytes)]);
        assert!(phases[0].0.total.is_some_and(|total| total > 1000), "{phases:?}");
    }
}

#[tokio::test]
async fn the_store_is_pinned_verified_and_collected_with_progress() {
    let bed = Bed::open().await;
    let reference = bed.fill().await;
    let phases = bed.store(StoreRequest::Pin { what: reference.clone() }).await;
    Bed::check(&phases, &[("fetch", Unit::Bytes)]);
    assert!(phases[0].0.total.is_some(), "{phases:?}");
    let cid = reference.split("layer/").nth(1).unwrap().split(':').next().unwrap();
    let phases = bed.store(StoreRequest::Pin { what: cid.into() }).await;
    Bed::check(&phases, &[("fetch", Unit::Bytes)]);
    let phases = bed.store(StoreRequest::Verify { repair: false }).await;
    Bed::check(&phases, &[("hash", Unit::Bytes), ("hash blocks", Unit::Blocks)]);
    let collect = |dry| StoreRequest::Collect { dry, uploads: false };
    Bed::check(&bed.store(collect(true)).await, &[("mark", Unit::Blocks)]);
    let phases = bed.store(collect(false)).await;
    Bed::check(&phases, &[("mark", Unit::Blocks), ("delete", Unit::Bytes)]);
    assert!(phases[0].1.done > 0, "{phases:?}");
}

#[tokio::test]
async fn bundles_are_exported_and_imported_with_progress() {
    let bed = Bed::open().await;
    let reference = bed.fill().await;
    bed.export(&reference, "layout").await;
    let source = ArchiveSource::open(&bed.path("layout")).unwrap();
    let import = Request::Image(ImageRequest::Import { options: import_options("layout", false) });
    let (reply, _) = bed.ask(import, Attachment::Archive(source)).await;
    let Reply::Image(ImageReply::Imported { images }) = reply else { panic!("{reply:?}") };
    let reference = images[0].reference.clone();
    let images = vec![RequestedImage { reference, platforms: Vec::new(), tag: None, listed_in: None }];
    let dest = bed.path("a.car");
    let export = BundleRequest::Export { images, dest, split: None, since: Vec::new(), want: None };
    let parts = bed.destination("a.car", |path| Dest::Parts(PartsDest::File(path)));
    let (_, phases) = bed.ask(Request::Bundle(export), parts).await;
    Bed::check(&phases, &[("fetch", Unit::Bytes), ("export", Unit::Bytes)]);
    assert!(phases[1].1.done > 1000, "{phases:?}");
    let other = Bed::open().await;
    let file = fs::File::open(bed.path("a.car")).unwrap();
    let size = file.metadata().unwrap().len();
    let files = vec![BundleFile { what: "a.car".into(), input: Input::File(file), size: Some(size) }];
    let import = BundleRequest::Import { force: false, other_swarm: false, max_expansion: Some(1) };
    let (reply, phases) = other.ask(Request::Bundle(import), Attachment::Bundles(files)).await;
    Bed::check(&phases, &[("import", Unit::Bytes)]);
    assert_eq!(phases[0].1.done, size);
    let Reply::Bundle(BundleReply::Imported(imported)) = reply else { panic!("{reply:?}") };
    assert!(imported.missing.is_none() && imported.images.len() == 1, "{imported:?}");
}
