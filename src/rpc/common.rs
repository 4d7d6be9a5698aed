//! Options that all commands have: `timeout`, `offline`, and how CIDs and names are written.

use std::time::Duration;

use super::{args::Args, cids::CidForm, error::Error};

/// Commands that only ask or tell peers.
const ONLINE: [&str; 4] = ["name/publish", "routing/findpeer", "routing/findprovs", "swarm/connect"];
/// The forms of names and of peer IDs, and the one that each has here, which Kubo's command line asks for at any time.
const FORMS: [(&str, &str); 2] = [("ipns-base", "base36"), ("peerid-base", "b58mh")];

/// The options that all commands have.
pub struct CommonOptions {
    /// The time until an answer begins.
    pub timeout: Option<Duration>,
    /// Whether only what is here is read.
    pub offline: bool,
    /// How CIDs are written.
    pub cids: CidForm,
}

impl CommonOptions {
    /// Reads the options of a request to a path.
    pub fn parse(path: &str, args: &Args) -> Result<Self, Error> {
        let invalid = |_| Error::request("invalid value of option \"timeout\"");
        let timeout = args.text("timeout").map(humantime::parse_duration).transpose().map_err(invalid)?;
        let offline = args.is_set("offline")?;
        let command = path.strip_prefix("/api/v0/").unwrap_or_default();
        if offline && ONLINE.contains(&command) {
            return Err(Error::failed(format!("the option \"offline\" is not supported by {command}")));
        }
        for (name, form) in FORMS {
            if let Some(other) = args.text(name).filter(|given| *given != form) {
                return Err(Error::client(format!("{name} {other:?} is not supported: expected {form:?}")));
            }
        }
        let base = args.text("cid-base").map(str::parse).transpose().map_err(Error::failed)?;
        let cids = CidForm::new(base, args.flag("upgrade-cidv0-in-output")?);
        Ok(Self { timeout, offline, cids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(command: &str, query: &str) -> Result<CommonOptions, Error> {
        CommonOptions::parse(&format!("/api/v0/{command}"), &Args::parse(query))
    }

    #[test]
    fn a_common_option_is_obeyed_or_refused() {
        let given = parse("cat", "timeout=1m30s&offline=true&ipns-base=base36&peerid-base=b58mh").unwrap();
        assert!(given.offline && given.timeout == Some(Duration::from_secs(90)));
        assert!(!parse("name/publish", "offline=false").unwrap().offline);
        for (command, query) in [
            ("cat", "timeout=soon"),
            ("cat", "offline=maybe"),
            ("name/publish", "offline=true"),
            ("key/list", "ipns-base=b58mh"),
            ("id", "peerid-base=base32"),
            ("ls", "cid-base=nope"),
        ] {
            assert!(parse(command, query).is_err(), "{command}?{query}");
        }
    }
}
