//! Index entries, read in bounded memory whatever the length of the index.

use std::{collections::BTreeMap, fmt, io::Read};

use ocipfs_oci::{Digest, MediaType, Tag, media_type};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::annotations::IndexAnnotations;

/// A longer `index.json` is refused, or one of more entries.
pub const MAX_BYTES: u64 = 64 << 20;
/// More entries than any repository has tags.
pub const MAX_ENTRIES: usize = 100_000;
/// Text before the first entry of an index that is written here.
pub const BEGIN: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#;
/// Text between two entries.
pub const BETWEEN: &str = ",";
/// Text after the last entry: the entries name all tags.
pub const END: &str = r#"],"annotations":{"io.ocipfs.tags":"complete"}}"#;
/// With this annotation an entry says what its manifest refers to.
pub const SUBJECT: &str = "io.ocipfs.subject";
/// A longer name gives no tag.
const MAX_NAME: usize = 512;
/// Media types of nearly all entries, which take no memory of their own.
const USUAL: [&str; 4] = [
    media_type::OCI_MANIFEST,
    media_type::OCI_INDEX,
    media_type::DOCKER_MANIFEST,
    media_type::DOCKER_MANIFEST_LIST,
];

/// One entry of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub media_type: Option<MediaType>,
    pub digest: Digest,
    pub size: u64,
    pub ref_name: Option<String>,
    /// Digest of its subject, if the index gives it.
    pub subject: Option<Box<Digest>>,
}

impl Entry {
    pub fn is_index(&self) -> bool {
        self.media_type.as_ref().is_some_and(MediaType::is_index)
    }

    fn new(written: EntryJson) -> Option<Self> {
        let text = |text: Option<String>| text.filter(|text| !text.is_empty() && text.len() <= MAX_NAME);
        let (ref_name, subject) = written.annotations.map_or((None, None), |all| (all.ref_name, all.subject));
        Some(Self {
            media_type: text(written.media_type).and_then(|text| media_type(&text)),
            digest: written.digest.parse().ok()?,
            size: written.size,
            ref_name: text(ref_name),
            subject: subject.and_then(|subject| subject.parse().ok().map(Box::new)),
        })
    }
}

fn media_type(text: &str) -> Option<MediaType> {
    let usual = USUAL.iter().find(|usual| **usual == text);
    usual.map_or_else(|| text.parse().ok(), |usual| Some(MediaType::from_static(usual)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryJson {
    media_type: Option<String>,
    digest: String,
    size: u64,
    annotations: Option<EntryAnnotations>,
}

#[derive(Deserialize)]
struct EntryAnnotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    ref_name: Option<String>,
    #[serde(rename = "io.ocipfs.subject")]
    subject: Option<String>,
}

/// Gives `take` the entries of an index one by one, and counts them down; one whose digest has an algorithm that is not ours
/// is passed over; it fails where there are more than are `left`. Returns whether the index says that it names all tags.
pub fn each(json: &[u8], left: &mut usize, take: impl FnMut(Entry)) -> Result<bool, serde_json::Error> {
    read(serde_json::Deserializer::from_slice(json), left, take)
}

/// Reads an index piece by piece; otherwise like [`each`].
pub fn each_from(
    json: impl Read,
    left: &mut usize,
    take: impl FnMut(Entry),
) -> Result<bool, serde_json::Error> {
    read(serde_json::Deserializer::from_reader(json), left, take)
}

fn read<'de>(
    mut json: serde_json::Deserializer<impl serde_json::de::Read<'de>>,
    left: &mut usize,
    take: impl FnMut(Entry),
) -> Result<bool, serde_json::Error> {
    let names_all_tags = Top { left, take }.deserialize(&mut json)?;
    json.end().map(|()| names_all_tags)
}

/// Reads the entries in one chunk of an index that was written here, which is cut between entries; none of other bytes.
pub fn entries_of_chunk(chunk: &[u8]) -> Option<Vec<Entry>> {
    let begun = chunk.strip_prefix(BEGIN.as_bytes());
    let rest = begun.unwrap_or_else(|| chunk.strip_prefix(BETWEEN.as_bytes()).unwrap_or(chunk));
    let rest = rest.strip_suffix(END.as_bytes()).unwrap_or(rest);
    let (list, mut all, mut left) = ([b"[", rest, b"]"].concat(), Vec::new(), MAX_ENTRIES);
    let mut json = serde_json::Deserializer::from_slice(&list);
    Manifests { left: &mut left, take: &mut |entry| all.push(entry) }.deserialize(&mut json).ok()?;
    json.end().ok().map(|()| all)
}

/// An index, of which the entries count, and whether they are all tags.
struct Top<'a, F> {
    left: &'a mut usize,
    take: F,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Manifests,
    Annotations,
    #[serde(other)]
    Other,
}

impl<'de, F: FnMut(Entry)> DeserializeSeed<'de> for Top<'_, F> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Entry)> Visitor<'de> for Top<'_, F> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an image index")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<bool, A::Error> {
        let (mut is_there, mut names_all_tags) = (false, false);
        while let Some(field) = fields.next_key()? {
            match field {
                Field::Manifests if is_there => return Err(A::Error::duplicate_field("manifests")),
                Field::Manifests => {
                    is_there = true;
                    fields.next_value_seed(Manifests { left: self.left, take: &mut self.take })?;
                }
                Field::Annotations => {
                    names_all_tags |= fields.next_value::<IndexAnnotations>()?.names_all_tags;
                }
                Field::Other => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        if is_there { Ok(names_all_tags) } else { Err(A::Error::missing_field("manifests")) }
    }
}

struct Manifests<'a, F> {
    left: &'a mut usize,
    take: &'a mut F,
}

impl<'de, F: FnMut(Entry)> DeserializeSeed<'de> for Manifests<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(Entry)> Visitor<'de> for Manifests<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of descriptors")
    }

    /// Go writes an empty list as `null`.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(left) = self.left.checked_sub(1) {
            let Some(written) = list.next_element()? else { return Ok(()) };
            *self.left = left;
            Entry::new(written).into_iter().for_each(&mut *self.take);
        }
        match list.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom(format_args!("more than {MAX_ENTRIES} entries"))),
        }
    }
}

/// Gathers entries by their tags, the first where two have the same.
///
/// Some tools write a whole reference (`localhost/foo:1.0`): it gives a tag where that means one image.
#[derive(Default)]
pub struct Tags {
    exact: BTreeMap<Tag, Entry>,
    derived: BTreeMap<Tag, Option<Entry>>,
}

impl Tags {
    /// Takes an entry, if it has a tag. Of the entry only what leads to its manifest is kept.
    pub fn add(&mut self, entry: Entry) {
        let Some(name) = entry.ref_name else { return };
        let entry = Entry { ref_name: None, subject: None, ..entry };
        if let Ok(tag) = name.parse() {
            self.exact.entry(tag).or_insert(entry);
        } else if let Some(Ok(tag)) = name.rsplit_once(':').map(|(_, tag)| tag.parse()) {
            let one = self.derived.entry(tag).or_insert_with(|| Some(entry.clone()));
            one.take_if(|one| one.digest != entry.digest);
        }
    }

    /// Returns the gathered entries.
    pub fn finish(self) -> BTreeMap<Tag, Entry> {
        let mut tags = self.exact;
        for (tag, entry) in self.derived {
            if let Some(entry) = entry {
                tags.entry(tag).or_insert(entry);
            }
        }
        tags
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn entries(json: &[u8]) -> Result<Vec<Entry>, serde_json::Error> {
        let (mut all, mut left) = (Vec::new(), MAX_ENTRIES);
        each(json, &mut left, |entry| all.push(entry))?;
        Ok(all)
    }

    fn digest(n: u8) -> String {
        Digest::sha256_of(&[n]).to_string()
    }

    fn entry(n: u8, ref_name: &str) -> Value {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(n), "size": n,
            "annotations": {"org.opencontainers.image.ref.name": ref_name, "other": "x"}})
    }

    fn read(manifests: Value) -> Vec<Entry> {
        entries(json!({"schemaVersion": 2, "manifests": manifests}).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn incomplete_index_entries_are_parsed_leniently() {
        for manifests in [json!(null), json!([]), json!([{"digest": "blake3:00", "size": 1}])] {
            assert_eq!(read(manifests), []);
        }
        let [bare] =
            &read(json!([{"digest": digest(1), "size": 7, "annotations": null, "mediaType": ""}]))[..]
        else {
            panic!("one entry")
        };
        assert_eq!((bare.size, &bare.media_type, &bare.ref_name), (7, &None, &None));
        assert_eq!(read(json!([entry(1, "1.0")]))[0].ref_name.as_deref(), Some("1.0"));
        for wrong in ["", "[]", "{}", r#"{"manifests":{}}"#, r#"{"manifests":[{"size":1}]}"#] {
            assert!(entries(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tag_is_a_full_ref_name_or_an_unambiguous_suffix() {
        let mut all = Tags::default();
        let entries = read(json!([
            entry(1, "one"),
            entry(2, "one"),
            entry(3, "localhost/foo:two"),
            entry(4, "localhost/foo:three"),
            entry(5, "localhost/bar:three"),
            entry(6, "localhost/foo:one"),
            entry(7, "no tag"),
            entry(8, ""),
        ]));
        entries.into_iter().for_each(|entry| all.add(entry));
        let tags = all.finish();
        let found: Vec<(&str, u64)> = tags.iter().map(|(tag, entry)| (tag.as_str(), entry.size)).collect();
        assert_eq!(found, [("one", 1), ("two", 3)]);
    }

    #[test]
    fn an_index_with_too_many_entries_is_rejected() {
        let many = vec![json!({"digest": "x", "size": 1}); MAX_ENTRIES + 1];
        let error = entries(json!({"manifests": many}).to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("more than 100000 entries"), "{error}");
    }

    #[test]
    fn an_index_says_whether_it_names_all_tags() {
        let says = |json: &str| each(json.as_bytes(), &mut 9, drop).unwrap();
        assert!(says(&format!("{BEGIN}{END}")));
        assert!(says(r#"{"annotations":{"io.ocipfs.tags":"complete"},"manifests":[]}"#));
        assert!(!says(r#"{"manifests":[],"annotations":{"a":"b"}}"#));
        assert!(!says(r#"{"manifests":[],"annotations":[1]}"#));
    }

    #[test]
    fn the_entry_limit_is_shared_by_several_indexes() {
        let index =
            json!({"manifests": [entry(1, "a"), {"digest": "x", "size": 1}, entry(2, "b")]}).to_string();
        let (mut found, mut left) = (0, 5);
        each(index.as_bytes(), &mut left, |_| found += 1).unwrap();
        assert_eq!((found, left), (2, 2));
        assert!(each_from(index.as_bytes(), &mut left, |_| found += 1).is_err());
        assert_eq!((found, left), (3, 0));
        each(br#"{"manifests":[]}"#, &mut left, |_| found += 1).unwrap();
    }

    #[test]
    fn a_chunk_of_index_json_is_parsed_only_if_cut_between_entries() {
        let all = [1, 2, 3].map(|n| entry(n, &n.to_string()).to_string());
        let whole = format!("{BEGIN}{}{END}", all.join(BETWEEN));
        let second = whole.find(&all[1]).unwrap();
        let count = |chunk: &str| entries_of_chunk(chunk.as_bytes()).map(|entries| entries.len());
        for (cut, before) in [(second - BETWEEN.len(), 1), (whole.len() - END.len(), 3)] {
            assert_eq!(
                (count(&whole[..cut]), count(&whole[cut..])),
                (Some(before), Some(3 - before)),
                "{cut}"
            );
        }
        for cut in [1, BEGIN.len() - 1, second, second + 1, whole.len() - 3] {
            assert!(count(&whole[..cut]).is_none() || count(&whole[cut..]).is_none(), "{cut}");
        }
        for other in [&format!(" {whole}"), r#"{"manifests":[]}"#] {
            assert_eq!(count(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = (entries(&bytes), entries_of_chunk(&bytes));
        }
    }
}
