//! A registry that others reach: through a proxy, through a page in a browser, or as users with a login.

mod audited;
mod crowd;
mod deeds;
mod logging;
mod login;
mod pages;
mod proxied;
mod users;

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    let stories = [
        audited::trials(),
        crowd::trials(),
        deeds::trials(),
        logging::trials(),
        login::trials(),
        pages::trials(),
        proxied::trials(),
        users::trials(),
    ];
    stories.into_iter().flatten().collect()
}

/// Writes a file of users, each with a password.
pub fn users(path: &Path, users: &[(&str, &str)]) -> String {
    let line =
        |(user, password): &(&str, &str)| format!("{user}:{}\n", bcrypt::hash(password, 4).expect("a hash"));
    // At once: a file that is half written has other users for a moment.
    let next = path.with_extension("next");
    fs::write(&next, users.iter().map(line).collect::<String>()).expect("a file");
    fs::rename(next, path).expect("a file");
    path.to_str().expect("UTF-8").into()
}

/// The header that logs a user in.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
