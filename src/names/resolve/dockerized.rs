//! `<ciq...|1220...>/<name>[:latest]`: a directory of image2ipfs, by its CIDv0 in a lower-case base.

use ocipfs_node::Cid;
use ocipfs_oci::{Digest, Name, Reference, Tag};

use super::{BlobSource, Document, Error, layout};
use crate::{
    content::{self, Blob, CidPath, Content},
    images::{self, MAX_MANIFEST},
};

/// A first component that is longer and begins so can only be meant as a hash.
const MIN_HASH_LENGTH: usize = 40;

/// Returns the CID of a dockerized hash, or why it is invalid; none if the text is not meant as one.
pub fn parse(component: &str) -> Option<Result<Cid, String>> {
    let (multibase, base, length) = match component.get(..4)? {
        "1220" => ("f", "the hex digits", 68),
        start if start.starts_with("ciq") => ("b", "the base32", 55),
        _ => return None,
    };
    match Cid::try_from(format!("{multibase}{component}")) {
        Ok(cid) if component.len() == length => Some(Ok(cid)),
        _ if component.len() > MIN_HASH_LENGTH => {
            Some(Err(format!("expected {length} characters, {base} of the 34 bytes of a CIDv0")))
        }
        _ => None,
    }
}

/// The directory `<cid>/<name>`, which holds `manifests` and `blobs`.
pub struct Dockerized<'a> {
    pub content: &'a Content,
    pub name: &'a Name,
    pub at: &'a CidPath,
}

impl Dockerized<'_> {
    pub async fn manifest(&self, reference: &Reference) -> Result<Document, Error> {
        let document = self.document().await?;
        let known = match reference {
            Reference::Tag(tag) => tag.is_latest(),
            Reference::Digest(digest) => *digest == document.digest,
        };
        let instead = || format!("latest or {}", document.digest);
        match known {
            true => Ok(document),
            false => Err(Error::UnknownReference {
                name: self.name.clone(),
                reference: reference.clone(),
                instead: instead(),
            }),
        }
    }

    fn manifest_path(&self) -> CidPath {
        self.at.below(["manifests", "latest-v2"])
    }

    /// The manifest, byte for byte.
    async fn document(&self) -> Result<Document, Error> {
        let at = self.manifest_path();
        let bytes = match self.content.read(&at, MAX_MANIFEST).await {
            Err(error @ content::Error::NoEntry { .. }) => return Err(self.no_manifest(error).await),
            bytes => bytes?,
        };
        Document::unnamed(&at, bytes).map_err(|why| Error::image(self.name, why))
    }

    /// Why no manifest can be served.
    async fn no_manifest(&self, error: content::Error) -> Error {
        let old = self.at.below(["manifests", "latest"]);
        let why = match self.content.look(&old).await {
            Ok(_) => Some(images::Error::Schema1(old)),
            Err(_) => layout::missing(self.content, &self.manifest_path()).await,
        };
        why.map_or(error.into(), |why| Error::image(self.name, why))
    }

    pub async fn blob(&self, digest: &Digest) -> Result<BlobSource, Error> {
        let at = self.at.below(["blobs", &digest.to_string()]);
        match self.content.stat(&at).await {
            Ok(stat) => {
                let gc_root = Some(*at.root());
                Ok(BlobSource::Blob(Box::new(Blob { digest: digest.clone(), size: stat.size, at, gc_root })))
            }
            Err(content::Error::NoEntry { .. }) => self.manifest_as_blob(digest).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Clients may ask for the manifest as for any blob.
    async fn manifest_as_blob(&self, digest: &Digest) -> Result<BlobSource, Error> {
        let document = self.document().await?;
        let size = document.bytes.len() as u64;
        let (at, gc_root) = (self.manifest_path(), Some(*self.at.root()));
        match document.digest == *digest {
            true => Ok(BlobSource::Blob(Box::new(Blob { digest: digest.clone(), size, at, gc_root }))),
            false => Err(Error::UnknownBlob { name: self.name.clone(), digest: digest.clone() }),
        }
    }

    pub async fn tags(&self) -> Result<Vec<Tag>, Error> {
        self.document().await.map(|_| vec![Tag::latest()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V0: &str = "QmPgRXXDD193VeyEQMgxY2RkNFZ7Ni2cNd3w43Srm59hJc";

    #[test]
    fn dockerized_hash_has_a_fixed_length() {
        let cid = Cid::try_from(V0).unwrap();
        let hex = hex::encode(cid.to_bytes());
        let v1 = Cid::new_v1(0x55, *cid.hash());
        assert_eq!(parse(&hex), Some(Ok(cid)));
        for none in ["ciq", "ciqual", "1220", "1220th", "layer", "", "c", &v1.to_string()] {
            assert_eq!(parse(none), None, "{none}");
        }
        for wrong in [&hex[1..], &hex[..60], &format!("{hex}00"), &format!("ciq{}", "a".repeat(50))] {
            assert!(!matches!(parse(wrong), Some(Ok(_))), "{wrong}");
        }
        assert!(matches!(parse(&hex[..60]), Some(Err(_))));
    }
}
