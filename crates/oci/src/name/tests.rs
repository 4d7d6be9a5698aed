use proptest::prelude::*;

use super::*;

const GRAMMAR: &str = "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}(/[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}){0,4}";

#[test]
fn valid_repository_names_are_parsed() {
    let longest = "a".repeat(Name::MAX_LENGTH);
    let table = [
        "a",
        "0",
        "alpine",
        "library/alpine",
        "a.b/c_d/e__f/g-h/i---j",
        "layer/bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu",
        "ipns/en.wikipedia-on-ipfs.org/a/blobs/b",
        &longest,
    ];
    for text in table {
        let name: Name = text.parse().unwrap();
        assert_eq!((name.as_str(), name.to_string().as_str()), (text, text));
    }
}

#[test]
fn an_invalid_repository_name_is_rejected_with_its_component() {
    let separator = |component: &str| Error::Separator(component.to_owned());
    let character =
        |component: &str, character| Error::Character { component: component.to_owned(), character };
    let table = [
        ("", Error::Empty),
        ("/", Error::EmptyComponent("/".to_owned())),
        ("/a", Error::EmptyComponent("/a".to_owned())),
        ("a/", Error::EmptyComponent("a/".to_owned())),
        ("a//b", Error::EmptyComponent("a//b".to_owned())),
        ("ipfs/QmPg", Error::UpperCase("QmPg".to_owned())),
        ("A b", Error::UpperCase("A b".to_owned())),
        ("a/b c", character("b c", ' ')),
        ("a:b", character("a:b", ':')),
        ("a/é", character("é", 'é')),
        ("a\0", character("a\0", '\0')),
        ("a/%2e", character("%2e", '%')),
        (".", separator(".")),
        ("a/../b", separator("..")),
        ("-a", separator("-a")),
        ("a-", separator("a-")),
        ("a/_b", separator("_b")),
        ("a..b", separator("a..b")),
        ("a___b", separator("a___b")),
        ("a._b", separator("a._b")),
        ("a-.b", separator("a-.b")),
        ("a.-/b", separator("a.-")),
    ];
    for (text, expected) in table {
        assert_eq!(text.parse::<Name>(), Err(expected), "{text}");
    }
}

#[test]
fn a_repository_name_of_256_bytes_is_rejected() {
    assert_eq!("a".repeat(256).parse::<Name>(), Err(Error::TooLong(256)));
}

#[test]
fn an_upper_case_name_is_rejected_with_a_specific_error() {
    let message = "ipfs/QmPg".parse::<Name>().unwrap_err().to_string();
    assert!(message.contains("\"QmPg\"") && message.contains("lower-case base"), "{message}");
}

#[test]
fn components_are_split_at_slashes() {
    let name: Name = "ipfs/bafy/web".parse().unwrap();
    assert_eq!(name.components().collect::<Vec<_>>(), ["ipfs", "bafy", "web"]);
}

#[test]
fn a_repository_name_is_validated_in_json() {
    let name: Name = serde_json::from_str("\"a/b\"").unwrap();
    assert_eq!(serde_json::to_string(&name).unwrap(), "\"a/b\"");
    assert!(serde_json::from_str::<Name>("\"a//b\"").is_err());
}

proptest! {
    #[test]
    fn repository_names_round_trip_through_text(text in GRAMMAR) {
        prop_assert_eq!(text.parse::<Name>().unwrap().to_string(), text);
    }

    #[test]
    fn arbitrary_text_does_not_panic(text in "\\PC*") {
        let _ = text.parse::<Name>();
    }

    #[test]
    fn a_parsed_name_has_no_invalid_component(text in "[ab._/-]{0,8}") {
        if let Ok(name) = text.parse::<Name>() {
            for component in name.components() {
                prop_assert!(component.starts_with(is_alphanumeric) && component.ends_with(is_alphanumeric));
                prop_assert!(!["..", "___", "._", "_.", ".-", "-.", "_-", "-_"].iter().any(|pair| component.contains(pair)));
            }
        }
    }
}
