//! How an answer writes CIDs: the options `cid-base` and `upgrade-cidv0-in-output`, for the task that answers.

use ocipfs_node::{Cid, CidBase, as_v1};

use super::{args::Args, error::Error};

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
    /// Reads the options. As in Kubo, another base than that of CIDv0 also makes each CID a CIDv1.
    pub fn parse(args: &Args) -> Result<Self, Error> {
        let base: Option<CidBase> =
            args.text("cid-base").map(str::parse).transpose().map_err(Error::failed)?;
        let upgrades = args.flag("upgrade-cidv0-in-output")?;
        Ok(Self { base, upgrades: upgrades.unwrap_or(base.is_some_and(|base| !base.is_base58btc())) })
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
        for (query, expected) in [
            ("", v0),
            ("cid-base=base32", v1),
            ("cid-base=base58btc", v0),
            ("cid-base=base32&upgrade-cidv0-in-output=false", v0),
            ("upgrade-cidv0-in-output=true", v1),
        ] {
            let form = CidForm::parse(&Args::parse(query)).unwrap();
            assert_eq!(form.text(&v0.parse().unwrap()), expected, "{query}");
        }
        let base58 = CidForm::parse(&Args::parse("cid-base=base58btc")).unwrap();
        let leaf = "bafkreiey5jxe6ilpf62lnh77tm5ejbbmhbugzjuf6p2v3remlu73ced34q".parse().unwrap();
        assert_eq!(base58.text(&leaf), "zb2rhgwCVg3iEfvDBxYToAHjm9CXPvZus7Sc9JbjUKuL327yu");
        assert!(CidForm::parse(&Args::parse("cid-base=nope")).is_err());
    }
}
