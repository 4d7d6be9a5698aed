//! Any text is a name or refused; what is understood is understood the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocipfs::names::{NameKind, ipns};

/// Beginnings that a fuzzer would be long in finding.
const BEGINNINGS: [&str; 12] = [
    "",
    "layer/",
    "ipfs/",
    "ipns/",
    "ipfs/bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu",
    "layer/bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu",
    "ipns/k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8",
    "ipns/example.org",
    "ipns/QmPgRXXDD193VeyEQMgxY2RkNFZ7Ni2cNd3w43Srm59hJc",
    "/ipns/",
    "ipfs://",
    "ciqbh3deuhgvvkwwuoklttd7o2q274v24lttessyoxmhvwnltbf76lq",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let Ok(rest) = std::str::from_utf8(rest) else { return };
    let text = format!("{}{rest}", BEGINNINGS[usize::from(*first) % BEGINNINGS.len()]);
    match NameKind::parse(&text) {
        Ok(meaning) => {
            assert_eq!(NameKind::parse(meaning.name().as_str()).expect("it was understood"), meaning);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(path) = text.parse::<ipns::Path>() {
        assert_eq!(path.to_string().parse::<ipns::Path>().expect("it was written here"), path);
    }
});
