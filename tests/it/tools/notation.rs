//! notation: signatures by certificates.

use libtest_mimic::Trial;

use super::{Nodes, referrers};
use crate::{
    clients::{Client, NOTATION},
    harness::{Serve, blocking, trials},
};

pub fn trials() -> Vec<Trial> {
    trials![needs NOTATION.available(); signatures_of_notation_are_verified_at_a_follower]
}

const POLICY: &str = r#"{ "version": "1.0", "trustPolicies": [{ "name": "all", "registryScopes": ["*"],
    "signatureVerification": { "level": "strict" }, "trustStores": ["ca:test"], "trustedIdentities": ["*"] }] }"#;

/// A notation with a certificate that it trusts.
pub fn keyed() -> Client {
    let notation = NOTATION.start().unwrap();
    let policy = notation.write("policy.json", POLICY).unwrap();
    notation.run(&["cert", "generate-test", "--default", "test"]).unwrap();
    notation.run(&["policy", "import", &policy]).unwrap();
    notation
}

async fn signatures_of_notation_are_verified_at_a_follower() {
    blocking(|| {
        let (nodes, notation) = (Nodes::start(), keyed());
        let (digest, other) = (nodes.push("app", "1").digest(), nodes.push("other", "1").digest());
        let at = |node: &Serve, name: &str| format!("{}/{name}@{digest}", node.registry());
        assert_eq!(digest, other);
        let sign = |name: &str, more: &[&str]| {
            let image = at(&nodes.publisher, name);
            notation.run(&[&["sign", "--insecure-registry"], more, &[&image]].concat()).unwrap();
        };
        let verify = |image: &str| notation.run(&["verify", "--insecure-registry", image]);
        verify(&at(&nodes.publisher, "app")).unwrap_err();
        // By default notation writes the index of the fall-back tag itself; else the registry knows the referrers.
        sign("app", &["--force-referrers-tag=false"]);
        sign("app", &["--force-referrers-tag=false", "--signature-format", "cose"]);
        sign("other", &[]);
        let (follower, _dir) = nodes.orphan();
        let kind = "application/vnd.cncf.notary.signature";
        assert_eq!(referrers(&follower, "app", &digest), [kind; 2]);
        assert_eq!(referrers(&follower, "other", &digest), [kind]);
        for name in ["app", "other"] {
            verify(&at(&follower, name)).unwrap();
            let listed = notation.run(&["list", "--insecure-registry", &at(&follower, name)]).unwrap();
            assert!(listed.contains(kind), "{listed}");
        }
    })
    .await;
}
