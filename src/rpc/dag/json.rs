//! Nodes as DAG-JSON: <https://ipld.io/specs/codecs/dag-json/spec/>.

use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use ocipfs_node::Cid;
use serde_json::{Value, json};

use crate::content::Fields;

const RAW: u64 = 0x55;

/// Returns a node of the data model.
pub fn node(cid: &Cid, fields: &Fields) -> Value {
    let data = fields.data.as_ref().map(|data| bytes(data));
    if cid.codec() == RAW {
        return data.unwrap_or_default();
    }
    let links = fields
        .links
        .iter()
        .map(|found| json!({ "Hash": link(&found.cid), "Name": found.name, "Tsize": found.size }));
    let mut node = json!({ "Links": links.collect::<Vec<_>>() });
    if let Some(data) = data {
        node["Data"] = data;
    }
    node
}

/// Returns a CID as a link.
pub fn link(cid: &Cid) -> Value {
    json!({ "/": cid.to_string() })
}

fn bytes(bytes: &[u8]) -> Value {
    json!({ "/": { "bytes": BASE64_STANDARD_NO_PAD.encode(bytes) } })
}
