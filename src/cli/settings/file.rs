//! The file of settings: TOML, whose keys are the long flags of `serve`.

use std::path::{Path, PathBuf};

use clap::CommandFactory;

use super::{Environment, Settings, nearest, usage};
use crate::{
    cli::{Exit, Global},
    control::Failure,
};

/// Reads the file that was named, or `config.toml` in the node directory if there is one.
pub fn read(global: &Global, data_dir: Option<&PathBuf>) -> Result<Settings, Exit> {
    match (&global.config, data_dir) {
        (Some(path), _) => parse(path),
        (None, Some(dir)) if dir.join("config.toml").exists() => parse(&dir.join("config.toml")),
        _ => Ok(Settings::default()),
    }
}

fn parse(path: &Path) -> Result<Settings, Exit> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| {
        usage(format!("cannot read settings from {shown}: {e}"), "name another file with --config")
    })?;
    if let Some((key, hint)) = unknown_key(&text) {
        return Err(usage(format!("unknown setting {key:?} in {shown}"), &hint));
    }
    if let Err(e) = text.parse::<toml::Table>() {
        let message = format!("{shown} is not TOML: {}", e.to_string().trim_end());
        return Err(usage(
            message,
            "settings are lines such as `listen = \"127.0.0.1:5050\"`: the long flags of `ocipfs serve`",
        ));
    }
    toml::from_str(&text).map_err(|e| {
        Exit::Usage(Failure::new(format!("invalid setting in {shown}: {}", e.to_string().trim_end())))
    })
}

/// Returns the first key that is not a setting, and a hint.
fn unknown_key(text: &str) -> Option<(String, String)> {
    let table: toml::Table = toml::from_str(text).ok()?;
    let command = Environment::command();
    let known: Vec<&str> =
        command.get_arguments().filter_map(clap::Arg::get_long).chain(["data-dir"]).collect();
    let key = table.keys().find(|key| !known.contains(&key.as_str()))?;
    let hint = match nearest(key, known.into_iter()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => "the keys are the long flags of `ocipfs serve`, without the dashes in front".into(),
    };
    Some((key.clone(), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (String, Option<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        match parse(&path) {
            Err(Exit::Usage(failure)) => (failure.message, failure.hint),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_unknown_setting_is_an_error_with_a_suggestion() {
        let (message, hint) = refused("liste = \":1\"");
        assert!(message.contains("unknown setting \"liste\""), "{message}");
        assert_eq!(hint.as_deref(), Some("did you mean `listen`?"));
        let (message, hint) = refused("max-size = \"ten\"");
        assert!(message.contains("invalid size \"ten\""), "{message}");
        assert_eq!(hint, None);
    }

    #[test]
    fn a_settings_file_that_is_not_toml_is_an_error_with_an_example() {
        for text in ["version: 0.1\nhttp:\n  addr: :5000\n", "{\"http\": {\"port\": 5000}}"] {
            let (message, hint) = refused(text);
            assert!(message.contains("is not TOML: "), "{message}");
            assert!(hint.is_some_and(|hint| hint.contains("listen = ")));
        }
    }

    #[test]
    fn a_config_file_that_is_a_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("config.toml")).unwrap();
        let global = Global::default();
        assert!(matches!(read(&global, Some(&dir.path().into())), Err(Exit::Usage(_))));
    }
}
