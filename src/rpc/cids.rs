//! How an answer writes CIDs: the options `cid-base` and `upgrade-cidv0-in-output`, for the task that answers.

use ocipfs_node::{Cid, CidBase, as_v1};

tokio::task_local! {
    static FORM: CidForm;
}

/// The form of the CIDs of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct CidForm {
    base: Option<CidBase>,
    upgrades: bool,
}

impl CidForm {
    /// The form that the options ask for. As in Kubo, another base than that of CIDv0 also makes each CID a CIDv1.
    pub fn new(base: Option<CidBase>, upgrades: Option<bool>) -> Self {
        Self { base, upgrades: upgrades.unwrap_or(base.is_some_and(|base| !base.is_base58btc())) }
    }

    /// Returns the form of this task.
    pub fn current() -> Self {
        FORM.try_with(|form| *form).unwrap_or_default()
    }

    /// Runs a task that writes CIDs in this form.
    pub async fn scope<T>(self, task: impl Future<Output = T>) -> T {
        FORM.scope(self, task).await
    }

    fn text(self, cid: &Cid) -> String {
        let cid = if self.upgrades { as_v1(cid) } else { *cid };
        self.base.map_or_else(|| cid.to_string(), |base| base.text(&cid))
    }
}

/// Returns a CID as the client wants it.
pub fn text(cid: &Cid) -> String {
    CidForm::current().text(cid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cids_are_written_as_kubo_does_for_the_same_options() {
        let v0 = "QmZLRFWaz9Kypt2ACNMDzA5uzACDRiCqwdkNSP1UZsu56D";
        let v1 = "bafybeifdmflkybo26fnmpxrcoakgaeax4yrt2kftctbcz3zz6uz3c5p3xy";
        let cases: [(Option<&str>, Option<bool>, &str); 5] = [
            (None, None, v0),
            (Some("base32"), None, v1),
            (Some("base58btc"), None, v0),
            (Some("base32"), Some(false), v0),
            (None, Some(true), v1),
        ];
        for (base, upgrades, expected) in cases {
            let form = CidForm::new(base.map(|base| base.parse().unwrap()), upgrades);
            assert_eq!(form.text(&v0.parse().unwrap()), expected, "{base:?} {upgrades:?}");
        }
        let base58 = CidForm::new(Some("base58btc".parse().unwrap()), None);
        let leaf = "bafkreiey5jxe6ilpf62lnh77tm5ejbbmhbugzjuf6p2v3remlu73ced34q".parse().unwrap();
        assert_eq!(base58.text(&leaf), "zb2rhgwCVg3iEfvDBxYToAHjm9CXPvZus7Sc9JbjUKuL327yu");
    }
}
