//! Generated repositories: every kind of image, with signatures and other referrers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ocipfs_oci::{Algorithm, Digest, Hasher, media_type};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::images::archive::{
    IMAGE_NAME, REF_NAME, REPOSITORY, blob_path,
    tests::{
        layer,
        tools::{Files, gzip},
    },
};

/// A layer, different for each number.
#[derive(Clone, Copy, Debug)]
enum Layer {
    Plain(u8),
    Gzip(u8),
    /// A file that is not a tar, whose media type has parameters.
    Text(u8),
    /// A tar with a digest of another algorithm.
    Sha512(u8),
}

/// An image or what is stored as one.
#[derive(Clone, Debug)]
enum Shape {
    Image(Vec<Layer>),
    /// Of these platforms, with an attestation.
    Index(Vec<Vec<Layer>>),
    /// An index of an index.
    Nested(Vec<Layer>),
    /// An index that names a platform which is not here.
    Sparse(Vec<Layer>),
    /// An index that does not say what its entries are.
    Unstated(Vec<Layer>),
    /// A cache of BuildKit: an index whose entries are layers.
    Cache(Vec<Layer>),
    /// As helm and oras push them.
    Artifact(Layer),
    /// With a layer that is not distributed, and one that the web has.
    Foreign(Layer),
}

/// What refers to an image, or to its first platform.
#[derive(Clone, Copy, Debug)]
enum About {
    Subject(u8),
    /// A referrer of a referrer.
    Twice(u8),
    /// cosign's, under a tag with this suffix.
    Tagged(&'static str),
    /// An index of a referrer under the fall-back tag.
    Fallback(u8),
    /// A referrer of a platform.
    OfPlatform(u8),
}

type Top = (Shape, u8, Vec<About>);

/// The repositories of an archive.
#[derive(Clone)]
pub struct Model {
    pub repositories: Vec<Repository>,
    /// What they were made of.
    tops: Vec<Vec<Top>>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tops.fmt(f)
    }
}

/// A repository, with all its blobs.
#[derive(Clone, Default)]
pub struct Repository {
    pub name: String,
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    entries: Vec<Value>,
    manifests: BTreeSet<Digest>,
    tags: BTreeSet<String>,
    referrers: BTreeMap<Digest, BTreeSet<Digest>>,
}

pub fn model() -> impl Strategy<Value = Model> {
    let layers = || prop::collection::vec(a_layer(), 0..4);
    let shape = prop_oneof![
        3 => layers().prop_map(Shape::Image),
        2 => prop::collection::vec(layers(), 1..3).prop_map(Shape::Index),
        1 => layers().prop_map(Shape::Nested),
        1 => layers().prop_map(Shape::Sparse),
        1 => layers().prop_map(Shape::Unstated),
        1 => prop::collection::vec(a_layer(), 1..4).prop_map(Shape::Cache),
        1 => a_layer().prop_map(Shape::Artifact),
        1 => a_layer().prop_map(Shape::Foreign),
    ];
    let about = prop_oneof![
        (0..3u8).prop_map(About::Subject),
        (0..3u8).prop_map(About::Twice),
        prop::sample::select(vec![".sig", ".att", ".sbom", ".other"]).prop_map(About::Tagged),
        (0..3u8).prop_map(About::Fallback),
        (0..3u8).prop_map(About::OfPlatform),
    ];
    let top = (shape, 0..3u8, prop::collection::vec(about, 0..4));
    let repository = prop::collection::vec(top, 1..4);
    prop::collection::vec(repository, 1..4).prop_map(Model::of)
}

fn a_layer() -> impl Strategy<Value = Layer> {
    prop_oneof![
        (0..5u8).prop_map(Layer::Plain),
        (0..5u8).prop_map(Layer::Gzip),
        (0..5u8).prop_map(Layer::Text),
        (0..5u8).prop_map(Layer::Sha512),
    ]
}

impl Model {
    fn of(all: Vec<Vec<Top>>) -> Self {
        let names = ["app", "team/db", "a/b/c"];
        let repository = |(name, tops): (&str, Vec<Top>)| Repository::of(name, &tops);
        let repositories = names.into_iter().zip(all.clone()).map(repository).collect();
        Self { repositories, tops: all }
    }

    /// An image `1.0` with a signature of cosign, an SBOM, and a signature of that.
    pub fn signed() -> Self {
        let mut repository = Repository { name: "app".into(), ..Repository::default() };
        let image = repository.shape(&Shape::Image(vec![Layer::Gzip(1)]));
        repository.enter(&image, Some("1.0".into()));
        repository.about(&image, &image, About::Tagged(".sig"));
        repository.about(&image, &image, About::Twice(1));
        Self { repositories: vec![repository], tops: Vec::new() }
    }

    pub fn cache() -> Self {
        Self::of(vec![vec![(Shape::Cache(vec![Layer::Gzip(1)]), 1, vec![])]])
    }

    pub fn foreign() -> Self {
        Self::of(vec![vec![(Shape::Foreign(Layer::Gzip(1)), 1, vec![])]])
    }

    /// A layout with all of it.
    pub fn layout(&self) -> Files {
        let mut files = BTreeMap::new();
        let mut entries = Vec::new();
        for repository in &self.repositories {
            files.extend(repository.blobs.iter().map(|(digest, bytes)| (blob_path(digest), bytes.clone())));
            entries.extend(repository.entries.iter().cloned());
        }
        let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
        files.insert("index.json".into(), index.to_string().into_bytes());
        files.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        files.into_iter().collect()
    }
}

impl Repository {
    fn of(name: &str, tops: &[Top]) -> Self {
        let mut repository = Self { name: name.into(), ..Self::default() };
        for (number, (shape, tags, about)) in tops.iter().enumerate() {
            let top = repository.shape(shape);
            match tags {
                0 => repository.enter(&top, None),
                tags => (0..*tags).for_each(|tag| repository.enter(&top, Some(format!("{number}.{tag}")))),
            }
            let platform = repository.first_platform(&top);
            about.iter().for_each(|about| repository.about(&top, &platform, *about));
        }
        repository
    }

    pub fn manifests(&self) -> BTreeSet<Digest> {
        self.manifests.clone()
    }

    pub fn tags(&self) -> BTreeSet<String> {
        self.tags.clone()
    }

    pub fn referrers(&self) -> BTreeMap<Digest, BTreeSet<Digest>> {
        self.referrers.clone()
    }

    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = Digest::sha256_of(&bytes);
        let size = bytes.len();
        self.blobs.insert(digest.clone(), bytes);
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size })
    }

    fn manifest(&mut self, media_type: &str, json: &Value) -> Value {
        let descriptor = self.blob(media_type, json.to_string().into_bytes());
        self.manifests.insert(digest(&descriptor));
        descriptor
    }

    fn layer(&mut self, layer_: Layer) -> Value {
        let tar = |n: u8| layer(&format!("file{n}"), 300 * usize::from(n));
        match layer_ {
            Layer::Plain(n) => self.blob(media_type::OCI_LAYER_TAR, tar(n)),
            Layer::Gzip(n) => self.blob(media_type::OCI_LAYER_TAR_GZIP, gzip(&tar(n))),
            Layer::Text(n) => self.blob("text/plain; charset=utf-8", vec![b'a' + n; 1 + usize::from(n)]),
            Layer::Sha512(n) => {
                let bytes = gzip(&tar(n));
                let digest = Hasher::of(Algorithm::Sha512, &bytes);
                let size = bytes.len();
                self.blobs.insert(digest.clone(), bytes);
                json!({ "mediaType": media_type::OCI_LAYER_TAR_GZIP, "digest": digest.to_string(), "size": size })
            }
        }
    }

    fn image(&mut self, layers: Vec<Value>) -> Value {
        let config = json!({ "architecture": "amd64", "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [] }, "history": [format!("{}", layers.len())] });
        let config = self.blob(media_type::OCI_CONFIG, config.to_string().into_bytes());
        let json = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config,
            "layers": layers, "annotations": { "a": null } });
        self.manifest(media_type::OCI_MANIFEST, &json)
    }

    fn image_of(&mut self, layers: &[Layer]) -> Value {
        let layers = layers.iter().map(|layer| self.layer(*layer)).collect();
        self.image(layers)
    }

    fn index(&mut self, entries: Vec<Value>) -> Value {
        let json = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
        self.manifest(media_type::OCI_INDEX, &json)
    }

    fn shape(&mut self, shape: &Shape) -> Value {
        match shape {
            Shape::Image(layers) => self.image_of(layers),
            Shape::Index(platforms) => {
                let mut entries: Vec<Value> = platforms.iter().map(|layers| self.image_of(layers)).collect();
                let mut attestation = self.image_of(&[Layer::Text(7)]);
                attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
                entries.push(attestation);
                entries[0]["platform"] = json!({ "os": "linux", "architecture": "amd64" });
                self.index(entries)
            }
            Shape::Nested(layers) => {
                let image = self.image_of(layers);
                let inner = self.index(vec![image]);
                self.index(vec![inner])
            }
            Shape::Sparse(layers) => {
                let image = self.image_of(layers);
                let absent = json!({ "mediaType": media_type::OCI_MANIFEST, "size": 9,
                    "digest": Digest::sha256_of(b"absent").to_string() });
                self.index(vec![absent, image])
            }
            Shape::Unstated(layers) => {
                let mut image = self.image_of(layers);
                image["mediaType"] = "".into();
                self.index(vec![image])
            }
            Shape::Cache(layers) => {
                let mut entries: Vec<Value> = layers.iter().map(|layer| self.layer(*layer)).collect();
                let config = br#"{"layers":[],"records":[]}"#.to_vec();
                entries.push(self.blob("application/vnd.buildkit.cacheconfig.v0", config));
                self.index(entries)
            }
            Shape::Artifact(layer) => {
                let config = self.blob("application/vnd.cncf.helm.config.v1+json", b"{}".to_vec());
                let layer = self.layer(*layer);
                let json = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
                    "artifactType": "sbom", "config": config, "layers": [layer] });
                self.manifest(media_type::OCI_MANIFEST, &json)
            }
            Shape::Foreign(layer) => {
                let absent = |kind: &str, text: &str| json!({ "mediaType": kind, "digest": Digest::sha256_of(text.as_bytes()).to_string(), "size": 9 });
                let windows =
                    absent("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "windows");
                let mut web = absent(media_type::OCI_LAYER_TAR_GZIP, "web");
                web["urls"] = json!(["https://example.org/layer"]);
                let layer = self.layer(*layer);
                self.image(vec![windows, layer, web])
            }
        }
    }

    /// The first manifest of an index, or the image itself.
    fn first_platform(&self, top: &Value) -> Value {
        let json: Value = serde_json::from_slice(&self.blobs[&digest(top)]).unwrap();
        let entries = json["manifests"].as_array().cloned().unwrap_or_default();
        let is_here = |entry: &Value| self.manifests.contains(&digest(entry));
        entries.into_iter().find(is_here).unwrap_or_else(|| top.clone())
    }

    fn enter(&mut self, top: &Value, tag: Option<String>) {
        let name = if self.name.contains('/') { self.name.clone() } else { format!("library/{}", self.name) };
        let mut entry = top.clone();
        entry["annotations"] = match &tag {
            Some(tag) => json!({ REF_NAME: tag, IMAGE_NAME: format!("docker.io/{name}:{tag}") }),
            None => json!({ IMAGE_NAME: format!("docker.io/{name}@{}", top["digest"].as_str().unwrap()) }),
        };
        self.tags.extend(tag);
        self.add(entry);
    }

    fn refer(&mut self, referrer: &Value, tag: Option<String>) {
        let mut entry = referrer.clone();
        entry["annotations"] = json!({ REPOSITORY: self.name });
        if let Some(tag) = tag {
            entry["annotations"][REF_NAME] = tag.clone().into();
            self.tags.insert(tag);
        }
        self.add(entry);
    }

    fn add(&mut self, entry: Value) {
        if !self.entries.contains(&entry) {
            self.entries.push(entry);
        }
    }

    /// A manifest with a subject.
    fn artifact(&mut self, subject: &Value, n: u8) -> Value {
        let config = self.blob(media_type::OCI_EMPTY, b"{}".to_vec());
        let layer = self.blob("application/spdx+json", format!("an SBOM {n}").into_bytes());
        let about = json!({ "mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"] });
        let json = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": format!("type/{n}"),
            "config": config, "layers": [layer], "subject": about });
        let artifact = self.manifest(media_type::OCI_MANIFEST, &json);
        self.referrers.entry(digest(subject)).or_default().insert(digest(&artifact));
        artifact
    }

    fn about(&mut self, top: &Value, platform: &Value, about: About) {
        let stem = format!("sha256-{}", digest(top).hex());
        match about {
            About::Subject(n) => {
                let artifact = self.artifact(top, n);
                self.refer(&artifact, None);
            }
            About::OfPlatform(n) => {
                let artifact = self.artifact(platform, n);
                self.refer(&artifact, None);
            }
            About::Twice(n) => {
                let first = self.artifact(top, n);
                let second = self.artifact(&first, n);
                self.refer(&second, None);
                self.refer(&first, None);
            }
            About::Tagged(suffix) => {
                let text = format!("{suffix} of {stem} in {}", self.name);
                let layer = self.blob("application/vnd.dev.cosign.simplesigning.v1+json", text.into_bytes());
                let signature = self.image(vec![layer]);
                self.refer(&signature, Some(format!("{stem}{suffix}")));
            }
            About::Fallback(n) if !self.tags.contains(&stem) => {
                let artifact = self.artifact(top, n);
                let index = self.index(vec![artifact]);
                self.refer(&index, Some(stem));
            }
            About::Fallback(_) => {}
        }
    }
}

fn digest(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}
