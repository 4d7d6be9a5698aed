//! The query of a request: arguments and options, as go-ipfs-cmds reads them.

use std::{convert::Infallible, str::FromStr};

use axum::{extract::FromRequestParts, http::request::Parts};

use super::error::Error;

/// Arguments and options of a command.
#[derive(Clone, Debug, Default)]
pub struct Args {
    args: Vec<String>,
    options: Vec<(String, String)>,
}

impl Args {
    /// Parses a query. Options that a command does not know are ignored, as in Kubo.
    pub fn parse(query: &str) -> Self {
        let mut all = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "arg" => all.args.push(value.into_owned()),
                _ => all.options.push((name.into_owned(), value.into_owned())),
            }
        }
        all
    }

    /// Returns all arguments.
    pub fn all(&self) -> &[String] {
        &self.args
    }

    /// Returns an argument, if there are so many.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.args.get(index).map(String::as_str)
    }

    /// Returns all arguments, of which one at least is required; `name` is what Kubo calls it.
    pub fn required(&self, name: &str) -> Result<&[String], Error> {
        match self.args.is_empty() {
            true => Err(Error::request(format!("argument {name:?} is required"))),
            false => Ok(&self.args),
        }
    }

    /// Returns an argument that is required.
    pub fn one(&self, index: usize, name: &str) -> Result<&str, Error> {
        self.get(index).ok_or_else(|| Error::request(format!("argument {name:?} is required")))
    }

    /// Returns the text of an option, if it is given and not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        let option = self.options.iter().rev().find(|(given, _)| given == name);
        option.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns an option of another type.
    pub fn option<T: FromStr>(&self, name: &str) -> Result<Option<T>, Error> {
        let parse = |text: &str| {
            let invalid = || Error::request(format!("invalid value {text:?} of option {name:?}"));
            text.parse().map_err(|_| invalid())
        };
        self.text(name).map(parse).transpose()
    }

    /// Returns whether an option is set.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        let parse = |text: &str| match text {
            "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
            "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
            _ => Err(Error::request(format!(
                "invalid value {text:?} of option {name:?}: expected true or false"
            ))),
        };
        self.text(name).map(parse).transpose()
    }

    /// Returns whether an option is set that is off by default.
    pub fn is_set(&self, name: &str) -> Result<bool, Error> {
        Ok(self.flag(name)?.unwrap_or(false))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Args {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_options_are_read_from_the_query() {
        let args = Args::parse("arg=%2Fipfs%2Fa&pin=false&arg=b+c&offset=-1&quiet=&pin=true&x");
        assert_eq!(args.all(), ["/ipfs/a", "b c"]);
        assert_eq!((args.get(1), args.get(2)), (Some("b c"), None));
        assert!(args.is_set("pin").unwrap() && !args.is_set("quiet").unwrap() && !args.is_set("x").unwrap());
        assert_eq!(args.option::<i64>("offset").unwrap(), Some(-1));
        assert_eq!(args.option::<u64>("length").unwrap(), None);
        assert!(args.option::<u64>("offset").is_err());
        assert!(Args::parse("pin=maybe").flag("pin").is_err());
        assert!(Args::parse("").required("path").is_err() && Args::parse("arg=").required("path").is_ok());
    }
}
