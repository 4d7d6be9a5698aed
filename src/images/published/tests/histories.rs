//! Random histories: an edited `index.json` equals one written from nothing, and its cost depends on the
//! changes.

use super::*;
use crate::images::repository::ROWS;

/// Event in the history of a repository.
#[derive(Clone, Debug)]
enum Step {
    Image(u8, Option<u8>),
    Index(u8, Option<u8>),
    Referrer(u8, Option<u8>),
    /// Push the same bytes again as another kind of manifest.
    Again(u8),
    Untag(u8),
    Remove(u8),
    RemoveTag(u8),
    /// An index that is made, and not published.
    Unpublished,
}

const TEXTS: u8 = 5;

fn step() -> impl Strategy<Value = (usize, Step)> {
    let tag = || prop::option::of(0..6u8);
    let digest = 0..3 * TEXTS;
    let step = prop_oneof![
        4 => (0..TEXTS, tag()).prop_map(|(text, tag)| Step::Image(text, tag)),
        3 => (0..TEXTS, tag()).prop_map(|(text, tag)| Step::Index(text, tag)),
        2 => (0..TEXTS, tag()).prop_map(|(text, tag)| Step::Referrer(text, tag)),
        1 => digest.clone().prop_map(Step::Again),
        1 => (0..6u8).prop_map(Step::Untag),
        3 => digest.prop_map(Step::Remove),
        1 => (0..6u8).prop_map(Step::RemoveTag),
        1 => Just(Step::Unpublished),
    ];
    (0..NAMES.len(), step)
}

fn described(json: Vec<u8>, kind: &'static str) -> (Vec<u8>, Descriptor) {
    let (digest, size) = (Digest::sha256_of(&json), json.len() as u64);
    (json, Descriptor::new(MediaType::from_static(kind), digest, size))
}

fn image(text: u8, subject: Option<Descriptor>) -> (Vec<u8>, Descriptor) {
    let config = Descriptor::new(
        MediaType::from_static(media_type::OCI_LAYER_TAR),
        Digest::sha256_of(&[text, subject.is_some().into()]),
        2,
    );
    let manifest = Manifest { subject, ..Manifest::new(config, Vec::new()) };
    described(serde_json::to_vec(&manifest).unwrap(), media_type::OCI_MANIFEST)
}

fn referrer(text: u8) -> (Vec<u8>, Descriptor) {
    image(text, Some(image(text % 3, None).1))
}

/// An index of the image of its number and of those of some others, one of which may be a referrer or an index.
fn index_of(text: u8) -> (Vec<u8>, Descriptor) {
    let mut children = vec![image(text, None).1, image((text + 2) % TEXTS, None).1];
    match text {
        0 => {}
        1 | 2 => children.push(referrer(text).1),
        _ => children.push(index_of(text - 2).1),
    }
    described(serde_json::to_vec(&Index::new(children)).unwrap(), media_type::OCI_INDEX)
}

fn any(number: u8) -> Digest {
    let of = [|text| image(text, None), referrer, index_of][usize::from(number / TEXTS)];
    of(number % TEXTS).1.digest
}

/// Tags that stand before, among and behind those of `rows`.
fn tag(tag: u8) -> String {
    ["a", "v000020a", "v000100", "v000250b", "x", "y"][usize::from(tag)].into()
}

impl Registry {
    fn apply(&self, of: &str, step: Step) {
        let name: Name = of.parse().unwrap();
        let push = |(json, descriptor): (Vec<u8>, Descriptor), to: Option<u8>| {
            let kind = match descriptor.media_type.is_index() {
                true => media_type::OCI_INDEX,
                false => media_type::OCI_MANIFEST,
            };
            self.push_manifest(of, &json, kind, to.map(tag).as_deref());
        };
        match step {
            Step::Image(text, tag) => push(image(text, None), tag),
            Step::Index(text, tag) => push(index_of(text), tag),
            Step::Referrer(text, tag) => push(referrer(text), tag),
            Step::Again(number) => {
                let Some(mut pushed) = self.repositories.manifest(&name, &any(number)).unwrap() else {
                    return;
                };
                let kind = match pushed.media_type.is_index() {
                    true => media_type::DOCKER_MANIFEST,
                    false => media_type::DOCKER_MANIFEST_LIST,
                };
                pushed.media_type = MediaType::from_static(kind);
                let references = [image((number + 1) % TEXTS, None).1.digest];
                self.edit(move |edit| edit.put_manifest(&name, &pushed, &[], None, &references));
            }
            Step::Untag(to) => {
                self.edit(move |edit| edit.remove_tag(&name, &tag(to).parse().unwrap()).map(drop))
            }
            Step::Remove(number) => {
                self.edit(move |edit| edit.remove_manifest(&name, &any(number)).map(drop))
            }
            Step::RemoveTag(to) => {
                self.edit(move |edit| edit.remove_image(&name, &tag(to).parse().unwrap()).map(drop));
            }
            Step::Unpublished => {
                self.published.index(self.published.current().unwrap(), &name).unwrap();
            }
        }
    }

    /// Holds that the indexes in the tree are those that are written from nothing.
    fn indexes_are_as_written(&self) {
        let current = self.published.current().unwrap();
        for name in NAMES {
            let there = self.published.find(current, &format!("{name}/index.json")).unwrap();
            let whole = self.published.write_index(&name.parse().unwrap()).unwrap();
            assert_eq!(there, whole.as_ref().map(|whole| whole.root.cid), "{name}");
            for block in whole.into_iter().flat_map(|whole| whole.blocks) {
                assert!(self.store.is_tree_node(&block.cid).unwrap(), "{name} lacks a node of its index");
            }
        }
    }

    /// Holds that each node of the tree counts once for each of its places, when the versions before are gone.
    fn nodes_count_once_for_each_place(&self) {
        while self.store.tree_versions().unwrap().len() > 1 {
            self.store.forget_oldest_tree().unwrap();
        }
        let (mut waiting, mut places) = (vec![self.published.current().unwrap().unwrap().root.cid], 0);
        while let Some(cid) = waiting.pop() {
            if self.store.is_tree_node(&cid).unwrap() {
                places += 1;
                let block = self.store.get(&cid).unwrap().unwrap();
                let links =
                    (cid.codec() != 0x55).then(|| ipld_dagpb::PbNode::from_bytes(block).unwrap().links);
                waiting.extend(links.into_iter().flatten().map(|link| link.cid));
            }
        }
        assert_eq!(self.store.tree_places().unwrap(), places);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn incrementally_edited_index_json_equals_one_written_from_scratch(
        tags in prop::sample::select(vec![0, 30, 300]),
        steps in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..20),
    ) {
        let registry = Registry::new();
        // Two that have the same chunks.
        let both: Vec<_> = NAMES[..2].iter().flat_map(|name| {
            rows(&["app"], 0..tags).into_iter().map(|(_, pushed, tag)| (name.parse().unwrap(), pushed, tag))
        }).collect();
        registry.put_rows(both);
        registry.catch_up();
        for some in steps {
            some.into_iter().for_each(|(name, step)| registry.apply(NAMES[name], step));
            registry.catch_up();
            registry.indexes_are_as_written();
        }
        if registry.published.current().unwrap().is_some() {
            registry.nodes_count_once_for_each_place();
        }
    }
}

#[test]
fn a_manifest_is_listed_again_after_its_index_is_deleted() {
    let registry = Registry::new();
    let steps = [Step::Image(0, Some(4)), Step::Untag(4), Step::Index(0, Some(5))];
    steps.into_iter().for_each(|step| registry.apply("app", step));
    registry.catch_up();
    let (image, index) = (image(0, None).1.digest, index_of(0).1.digest);
    assert_eq!(registry.index("app"), [(Some(tag(5)), index)]);
    COUNTS.set(Counts::default());
    registry.apply("app", Step::Remove(2 * TEXTS));
    registry.catch_up();
    assert_eq!(registry.index("app"), [(None, image)]);
    registry.indexes_are_as_written();
    assert!(COUNTS.get().edits > 0);
}

/// Returns the work of publishing one change of a repository with so many tags: nodes read, nodes made,
/// entries serialized, rows read.
fn work(tags: u32) -> BTreeMap<&'static str, [u64; 4]> {
    let registry = Registry::new();
    registry.put_rows(rows(&["app"], 0..tags));
    registry.catch_up();
    let middle = tags / 2;
    let row = |n: u32, tag: &str| {
        let (name, pushed, _) = rows(&["app"], n..n + 1).remove(0);
        vec![(name, pushed, tag.parse().unwrap())]
    };
    let name = || "app".parse::<Name>().unwrap();
    let tag = |n: u32| format!("v{n:06}").parse::<Tag>().unwrap();
    let digest = |n: u32| rows(&["app"], n..n + 1).remove(0).1.piece.digest;
    type Change<'a> = (&'static str, Box<dyn Fn() + 'a>);
    let changes: [Change; 8] = [
        ("a tag before all", Box::new(|| registry.put_rows(row(tags, "a")))),
        (
            "a tag among the others",
            Box::new(|| registry.put_rows(row(tags + 1, &format!("v{middle:06}-rc")))),
        ),
        ("a tag behind all", Box::new(|| registry.put_rows(row(tags + 2, "z")))),
        (
            "a tag that points elsewhere",
            Box::new(|| registry.put_rows(row(tags + 3, &format!("v{:06}", middle + 9)))),
        ),
        (
            "a tag that goes",
            Box::new(|| registry.edit(move |edit| edit.remove_tag(&name(), &tag(middle)).map(drop))),
        ),
        ("a manifest that goes", {
            Box::new(|| {
                registry.edit(move |edit| edit.remove_manifest(&name(), &digest(middle / 2)).map(drop))
            })
        }),
        ("an index of images without tags", {
            Box::new(|| {
                let (child, references) =
                    (rows(&["app"], tags + 4..tags + 5).remove(0).1, [digest(tags + 4)]);
                let kind = MediaType::from_static(media_type::OCI_INDEX);
                let index = Pushed { media_type: kind, ..rows(&["app"], tags + 5..tags + 6).remove(0).1 };
                registry.edit(move |edit| {
                    edit.put_manifest(&name(), &child, &[], None, &[])?;
                    edit.put_manifest(&name(), &index, &["index".parse().unwrap()], None, &references)
                });
            })
        }),
        ("an index that goes", {
            Box::new(|| registry.edit(move |edit| edit.remove_manifest(&name(), &digest(tags + 5)).map(drop)))
        }),
    ];
    let measure = |(what, change): Change| {
        change();
        COUNTS.set(Counts::default());
        ROWS.set(0);
        registry.catch_up();
        let Counts { reads, made, entries, edits } = COUNTS.get();
        assert!(edits > 0, "{what}: the index was written from nothing");
        (what, [reads, made, entries, ROWS.get()])
    };
    changes.into_iter().map(measure).collect()
}

#[test]
fn the_cost_of_publishing_a_tag_does_not_grow_with_the_number_of_tags() {
    let (few, many) = (work(2500), work(10_000));
    for (what, many) in many {
        let few = few[what];
        for (few, many) in few.into_iter().zip(many) {
            assert!(many < few * 2 + 4, "{what}: {few:?} at 2,500 tags, {many:?} at 10,000");
        }
        let [reads, made, entries, rows] = many;
        // Where a blob goes, its directory is read as far as it takes to see that it does not fit into one block.
        let most = if what.ends_with("goes") { 400 } else { 100 };
        assert!(reads < most && made < 20 && entries < 6 && rows < 20, "{what}: {many:?}");
    }
}
