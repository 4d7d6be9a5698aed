//! The multibase that a CID is written in.

use std::str::FromStr;

use cid::multibase::Base;

use crate::Cid;

/// The names of the multicodec table that Kubo takes for CIDs, each with its base.
const NAMES: [(&str, Base); 12] = [
    ("base16", Base::Base16Lower),
    ("base16upper", Base::Base16Upper),
    ("base32", Base::Base32Lower),
    ("base32upper", Base::Base32Upper),
    ("base36", Base::Base36Lower),
    ("base36upper", Base::Base36Upper),
    ("base58btc", Base::Base58Btc),
    ("base58flickr", Base::Base58Flickr),
    ("base64", Base::Base64),
    ("base64pad", Base::Base64Pad),
    ("base64url", Base::Base64Url),
    ("base64urlpad", Base::Base64UrlPad),
];

/// A multibase for CIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CidBase(Base);

/// The text names no base for CIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBase(String);

impl std::fmt::Display for UnknownBase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unsupported multibase encoding: {:?}", self.0)
    }
}

impl std::error::Error for UnknownBase {}

impl FromStr for CidBase {
    type Err = UnknownBase;

    /// Takes a name, `base32`, or the code that begins a text in the base, `b`.
    fn from_str(text: &str) -> Result<Self, UnknownBase> {
        let is_named = |(name, base): &&(&str, Base)| *name == text || base.code().to_string() == text;
        let found = NAMES.iter().find(is_named).map(|(_, base)| Self(*base));
        found.ok_or_else(|| UnknownBase(text.chars().take(40).collect()))
    }
}

impl CidBase {
    /// Returns whether it is the one of CIDv0.
    pub fn is_base58btc(self) -> bool {
        self.0 == Base::Base58Btc
    }

    /// Returns a CID in this base; a CIDv0, which has only one base, as it is.
    pub fn text(self, cid: &Cid) -> String {
        cid.to_string_of_base(self.0).unwrap_or_else(|_| cid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cid_is_written_in_a_base_by_its_name_or_its_code() {
        let v1: Cid = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy".parse().unwrap();
        for (base, start) in
            [("base32", "bafkrei"), ("b", "bafkrei"), ("base58btc", "zb2rh"), ("base16", "f0155")]
        {
            let text = base.parse::<CidBase>().unwrap().text(&v1);
            assert!(text.starts_with(start), "{base}: {text}");
            assert_eq!(text.parse::<Cid>().unwrap(), v1);
        }
        let v0: Cid = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn".parse().unwrap();
        assert_eq!("base32".parse::<CidBase>().unwrap().text(&v0), v0.to_string());
        for unknown in ["", "base33", "nope", "\0"] {
            assert!(unknown.parse::<CidBase>().is_err(), "{unknown:?}");
        }
    }
}
