//! Names that hold a CID or a key, in one spelling: a policy is about what is there, in whatever base it is asked for.

use std::borrow::Cow;

use ocipfs_node::{Cid, MutableName, as_v1};

/// A first component that is shorter is not a CID.
const MIN_HASH_LENGTH: usize = 40;

/// Spells the CID of a name as CIDv1 in base32, and the key of one in base36. What image2ipfs names by a CID alone is below `ipfs/`.
/// Other names stay as they are.
pub fn canonical(name: &str) -> Cow<'_, str> {
    let (first, below) = split(name);
    let (room, spelled, below) = match first {
        "ipfs" | "layer" => {
            let (root, below) = split(below);
            (first, cid(root), below)
        }
        "ipns" => {
            let (root, below) = split(below);
            (first, root.parse().ok().map(|key: MutableName| key.to_string()), below)
        }
        hash if hash.len() >= MIN_HASH_LENGTH => ("ipfs", bare(hash), below),
        _ => return name.into(),
    };
    match spelled {
        Some(root) if below.is_empty() => format!("{room}/{root}").into(),
        Some(root) => format!("{room}/{root}/{below}").into(),
        None => name.into(),
    }
}

fn split(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or((name, ""))
}

fn cid(text: &str) -> Option<String> {
    Cid::try_from(text).ok().map(|cid| as_v1(&cid).to_string())
}

/// A CID that begins a name: that of image2ipfs lacks the letter of its base.
fn bare(text: &str) -> Option<String> {
    let base = match text.get(..4)? {
        "1220" => "f",
        start if start.starts_with("ciq") => "b",
        _ => "",
    };
    cid(&format!("{base}{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";
    const V0: &str = "QmPgRXXDD193VeyEQMgxY2RkNFZ7Ni2cNd3w43Srm59hJc";
    const KEY: &str = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";

    #[test]
    fn names_of_the_same_content_have_one_spelling() {
        let hex = |text: &str| format!("f{}", hex::encode(Cid::try_from(text).unwrap().to_bytes()));
        let key = match KEY.parse::<MutableName>().unwrap() {
            MutableName::Key(key) => key.peer().to_string(),
            MutableName::Domain(_) => unreachable!(),
        };
        for (name, spelled) in [
            (format!("ipfs/{V1}"), format!("ipfs/{V1}")),
            (format!("ipfs/{V0}/a/b"), format!("ipfs/{V1}/a/b")),
            (format!("ipfs/{}/a", hex(V1)), format!("ipfs/{V1}/a")),
            (format!("layer/{}", hex(V1)), format!("layer/{V1}")),
            (format!("{V1}/a"), format!("ipfs/{V1}/a")),
            (format!("{}/a", &hex(V0)[1..]), format!("ipfs/{V1}/a")),
            (format!("ipns/{}/a", hex(KEY)), format!("ipns/{KEY}/a")),
            (format!("ipns/{key}"), format!("ipns/{KEY}")),
            ("ipns/Example.ORG./app".into(), "ipns/example.org/app".into()),
            ("ipfs/*".into(), "ipfs/*".into()),
            ("ipns".into(), "ipns".into()),
            ("team/app".into(), "team/app".into()),
            ("a".repeat(60), "a".repeat(60)),
        ] {
            assert_eq!(canonical(&name), spelled, "{name}");
        }
    }
}
