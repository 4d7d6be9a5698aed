/// The user that clients without a login are. What it may, everybody may.
pub const ANONYMOUS: &str = "anonymous";
/// All users with a login.
pub const AUTHENTICATED: &str = "authenticated";

/// Who asks: without a name, a client without a login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// The name of the login.
    pub name: Option<String>,
    /// Groups beside those of the file of rules, as the issuer of a token says.
    pub groups: Vec<String>,
}

impl User {
    /// A user of this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), groups: Vec::new() }
    }
}
