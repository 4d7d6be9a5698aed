use proptest::prelude::*;

use super::*;

#[test]
fn valid_tags_are_parsed() {
    let longest = "a".repeat(Tag::MAX_LENGTH);
    for text in ["latest", "1", "_", "A.b_c-d", "foo-0.1.0.tar.gz", "_..--", &longest] {
        assert_eq!(text.parse::<Tag>().unwrap().as_str(), text);
    }
}

#[test]
fn an_invalid_tag_is_rejected_with_the_expected_format() {
    let long = "a".repeat(129);
    for text in ["", ".a", "-a", "a+b", "a b", "a/b", "a:b", "é", "a\n", &long] {
        let message = text.parse::<Tag>().unwrap_err().to_string();
        assert!(message.contains("invalid tag"), "{message}");
        assert!(message.len() < 300, "{message}");
    }
}

#[test]
fn the_latest_tag_is_recognized() {
    assert!(Tag::latest().is_latest());
    assert_eq!("latest".parse(), Ok(Tag::latest()));
    assert!(!"Latest".parse::<Tag>().unwrap().is_latest());
}

#[test]
fn a_file_name_becomes_a_tag() {
    let long = format!("{}.tar", "é".repeat(200));
    let cut = "_".repeat(128);
    let table = [
        ("foo-0.1.0.tar.gz", "foo-0.1.0.tar.gz"),
        ("g++-12.tar", "g__-12.tar"),
        (".hidden", "_hidden"),
        ("-rf", "_rf"),
        ("..", "_."),
        ("+", "_"),
        ("a b/c:d", "a_b_c_d"),
        ("naïve", "na_ve"),
        (&long, &cut),
    ];
    for (file_name, expected) in table {
        assert_eq!(Tag::from_file_name(file_name).unwrap().as_str(), expected, "{file_name}");
    }
    assert_eq!(Tag::from_file_name(""), None);
}

#[test]
fn a_reference_with_a_colon_is_a_digest() {
    let digest = Digest::sha256_of(b"");
    assert_eq!(digest.to_string().parse(), Ok(Reference::from(digest)));
    assert_eq!("latest".parse(), Ok(Reference::from(Tag::latest())));
    assert!(matches!("sha256:x".parse::<Reference>(), Err(Error::Digest(digest::Error::Hex { .. }))));
    assert!(matches!("md5:00".parse::<Reference>(), Err(Error::Digest(digest::Error::Algorithm(_)))));
    assert!(matches!("a/b".parse::<Reference>(), Err(Error::Tag(_))));
}

#[test]
fn a_tag_is_validated_in_json() {
    let tag: Tag = serde_json::from_str("\"v1\"").unwrap();
    assert_eq!(serde_json::to_string(&tag).unwrap(), "\"v1\"");
    assert!(serde_json::from_str::<Tag>("\"a b\"").is_err());
}

proptest! {
    #[test]
    fn tags_round_trip_through_text(text in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
        prop_assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
    }

    #[test]
    fn arbitrary_text_does_not_panic(text in "\\PC*") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn every_file_name_yields_a_valid_tag(file_name in "\\PC{1,200}") {
        let tag = Tag::from_file_name(&file_name).unwrap();
        prop_assert_eq!(tag.to_string().parse(), Ok(tag.clone()));
        prop_assert_eq!(Tag::from_file_name(tag.as_str()), Some(tag));
    }
}
