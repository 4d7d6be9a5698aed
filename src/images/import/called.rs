//! What the images of an archive are called: their own names, or the given one.

use std::collections::{BTreeSet, HashMap};

use ocipfs_oci::{Descriptor, Digest, Name, Tag};

use super::{Error, Options};
use crate::images::archive::{ArchivedImage, Images};

/// Repository of images that neither their archive nor the caller names. A file's name would make the result depend on how the
/// same bytes are given.
const UNNAMED: &str = "image";

/// An image, or a referrer, and what it is to be called.
#[derive(Clone, Debug)]
pub struct Called {
    pub name: Name,
    /// Without one it is pulled by digest.
    pub tag: Option<Tag>,
    pub top: Descriptor,
    /// Whether it is an image; else it is about one.
    pub is_image: bool,
}

/// Returns the images with their names, then their referrers; an image with several names is listed once for each.
pub fn called(images: &mut Images, options: &Options) -> Result<Vec<Called>, Error> {
    let (given, tag) = match &options.name {
        Some((name, tag)) => (Some(name), tag.as_ref()),
        None => (None, None),
    };
    let pictures = std::mem::take(&mut images.pictures);
    if tag.is_none() {
        images.warnings.extend(pictures.iter().filter_map(|picture| picture.name.warning.clone()));
    }
    // Where there is nothing else, a referrer is what is pulled.
    let is_all_about = pictures.iter().all(|picture| picture.subject.is_some());
    let (tops, about): (Vec<_>, Vec<_>) =
        pictures.into_iter().partition(|picture| is_all_about || picture.subject.is_none());
    let names = Names::new(&tops, given)?;
    let mut all = Vec::new();
    for (picture, tag) in tops.iter().zip(tags(&tops, tag, images)?) {
        all.push(Called { name: names.of(picture), tag, top: picture.top.clone(), is_image: true });
    }
    let mut all = unique(all)?;
    place(about, &mut all, images, &names)?;
    Ok(all)
}

/// The repositories of images.
struct Names<'a> {
    given: Option<&'a Name>,
    unnamed: Name,
    /// Repositories that two registries have with other images: these keep their registry.
    shared: BTreeSet<&'a Name>,
}

impl<'a> Names<'a> {
    fn new(tops: &'a [ArchivedImage], given: Option<&'a Name>) -> Result<Self, Error> {
        let unnamed = UNNAMED.parse().map_err(|e: ocipfs_oci::name::Error| Error::Names(e.to_string()))?;
        let (mut known, mut shared) = (HashMap::new(), BTreeSet::new());
        for picture in tops {
            let Some(name) = &picture.name.repository else { continue };
            let before = known.insert((name, &picture.name.tag), picture);
            let differs = before.is_some_and(|before| {
                before.top.digest != picture.top.digest && before.name.full != picture.name.full
            });
            if differs && picture.name.tag.is_some() {
                shared.insert(name);
            }
        }
        Ok(Self { given, unnamed, shared })
    }

    fn of(&self, picture: &ArchivedImage) -> Name {
        let own = picture.name.repository.as_ref();
        let full = picture.name.full.as_ref().filter(|_| own.is_some_and(|own| self.shared.contains(own)));
        self.given.or(full).or(own).unwrap_or(&self.unnamed).clone()
    }
}

/// Returns the tag of each image. The given one is for the only image, or the only one with a tag; what stands alone is `latest`.
fn tags(tops: &[ArchivedImage], given: Option<&Tag>, images: &mut Images) -> Result<Vec<Option<Tag>>, Error> {
    let digests = |of: &mut dyn Iterator<Item = &ArchivedImage>| -> BTreeSet<Digest> {
        of.map(|picture| picture.top.digest.clone()).collect()
    };
    let all = digests(&mut tops.iter());
    let tagged = digests(&mut tops.iter().filter(|picture| picture.name.tag.is_some()));
    let latest = Tag::latest();
    let chosen = given.or(Some(&latest).filter(|_| tagged.is_empty()));
    let meant = if tagged.is_empty() { &all } else { &tagged };
    if let (Some(tag), 2..) = (chosen, meant.len()) {
        let count = meant.len();
        if !tagged.is_empty() {
            return Err(Error::Names(format!(
                "the tag {tag} cannot be given to {count} images of the archive"
            )));
        }
        images.warnings.push(format!("{count} images of the archive have no tag: pull them by digest"));
    }
    let tag = |picture: &ArchivedImage| match chosen {
        Some(tag) if meant.len() == 1 && meant.contains(&picture.top.digest) => Some(tag.clone()),
        _ => picture.name.tag.clone(),
    };
    Ok(tops.iter().map(tag).collect())
}

/// Leaves out what is listed twice, and what has no tag where it also has one.
fn unique(all: Vec<Called>) -> Result<Vec<Called>, Error> {
    let mut known: HashMap<(Name, Tag), Digest> = HashMap::new();
    let mut has_tag = BTreeSet::new();
    for image in &all {
        let Some(tag) = &image.tag else { continue };
        has_tag.insert((image.name.clone(), image.top.digest.clone()));
        let before = known.insert((image.name.clone(), tag.clone()), image.top.digest.clone());
        if before.is_some_and(|before| before != image.top.digest) {
            return Err(Error::Names(format!("the archive has two images for {}:{tag}", image.name)));
        }
    }
    let mut seen = BTreeSet::new();
    let is_new = |image: &Called| {
        let key = (image.name.clone(), image.top.digest.clone());
        let is_shown = image.tag.is_some() || !has_tag.contains(&key);
        is_shown && seen.insert((key, image.tag.clone()))
    };
    let mut all = all;
    all.retain(is_new);
    Ok(all)
}

/// Adds referrers, each to the repositories that have what it is about: an image, or another referrer.
fn place(
    mut about: Vec<ArchivedImage>,
    all: &mut Vec<Called>,
    images: &mut Images,
    names: &Names<'_>,
) -> Result<(), Error> {
    let mut have = Vec::new();
    for image in all.iter() {
        have.push((image.name.clone(), images.below(&image.top)?));
    }
    // What the archive says of its repository counts as long as that has what it is about.
    let mut is_strict = true;
    loop {
        let mut rest = Vec::new();
        let before = about.len();
        for picture in about {
            let repositories = repositories_of(&picture, &have, is_strict);
            if repositories.is_empty() {
                rest.push(picture);
                continue;
            }
            let below = images.below(&picture.top)?;
            for name in repositories {
                have.push((name.clone(), below.clone()));
                add(all, name, &picture);
            }
        }
        let is_stuck = rest.len() == before;
        about = rest;
        if about.is_empty() || (is_stuck && !is_strict) {
            break;
        }
        is_strict &= !is_stuck;
    }
    for picture in about {
        if let Some(subject) = picture.subject.as_ref().filter(|subject| **subject != picture.top.digest) {
            let text = format!("{} refers to {subject}, which is not imported", picture.top.digest);
            images.warnings.push(text);
        }
        add(all, names.of(&picture), &picture);
    }
    Ok(())
}

/// The repositories that have what a referrer is about, of those that `have` what is below their images: its own one where the
/// archive says it, else all.
fn repositories_of(
    picture: &ArchivedImage,
    have: &[(Name, BTreeSet<Digest>)],
    is_strict: bool,
) -> BTreeSet<Name> {
    let Some(subject) = &picture.subject else { return BTreeSet::new() };
    let own = picture.name.repository.as_ref();
    let own = own.filter(|own| is_strict && have.iter().any(|(name, _)| name == *own));
    let is_there = |(name, below): &&(Name, BTreeSet<Digest>)| {
        below.contains(subject) && own.is_none_or(|own| own == name)
    };
    have.iter().filter(is_there).map(|(name, _)| name.clone()).collect()
}

/// Adds a referrer to a repository; it has no tag there where another manifest has it.
fn add(all: &mut Vec<Called>, name: Name, picture: &ArchivedImage) {
    let is_free = |tag: &Tag| !all.iter().any(|other| other.name == name && other.tag.as_ref() == Some(tag));
    let tag = picture.name.tag.clone().filter(is_free);
    all.push(Called { name, tag, top: picture.top.clone(), is_image: false });
}
