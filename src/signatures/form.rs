//! What may stand in a signature. Clients read keys that are not known here, and known ones in any case of their letters, so a
//! manifest or a configuration with more than this may be an image to them.

use serde::{Deserialize, de::IgnoredAny};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "only the keys matter")]
struct FormDocument {
    schema_version: IgnoredAny,
    media_type: Option<IgnoredAny>,
    artifact_type: Option<IgnoredAny>,
    config: FormPart,
    layers: Vec<FormPart>,
    subject: Option<FormPart>,
    annotations: Option<IgnoredAny>,
}

/// A descriptor of content that is in the repository, and nowhere else.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "only the keys matter")]
struct FormPart {
    media_type: Option<IgnoredAny>,
    digest: IgnoredAny,
    size: IgnoredAny,
    annotations: Option<IgnoredAny>,
    artifact_type: Option<IgnoredAny>,
    platform: Option<IgnoredAny>,
}

/// An empty object, or the configuration that cosign writes: that of an image that runs nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only the keys matter")]
struct Configuration {
    architecture: Option<String>,
    author: Option<String>,
    created: Option<String>,
    docker_version: Option<String>,
    os: Option<String>,
    variant: Option<String>,
    history: Option<IgnoredAny>,
    rootfs: Option<IgnoredAny>,
    config: Option<Nothing>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Whether a manifest has only the keys of a signature.
pub fn is_document(json: &[u8]) -> bool {
    serde_json::from_slice::<FormDocument>(json).is_ok()
}

/// Whether the configuration of a signature runs nothing.
pub fn is_configuration(json: &[u8]) -> bool {
    serde_json::from_slice::<Configuration>(json).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{"created":"0001-01-01T00:00:00Z"}],"os":"","rootfs":{"type":"layers","diff_ids":["sha256:8090af102cb816c4230de3369a5f61edf7787fc7c0ecefdaa38151eea525b9f2"]},"config":{}}"#;

    #[test]
    fn a_configuration_that_runs_something_is_not_that_of_a_signature() {
        for json in ["{}", CONFIG, r#"{"config":null}"#] {
            assert!(is_configuration(json.as_bytes()), "{json}");
        }
        for json in [
            "",
            "x",
            "{} {}",
            r#"{"config":{"Entrypoint":["/bin/sh"]}}"#,
            r#"{"config":{"Env":[]}}"#,
            r#"{"config":{"cmd":["/bin/sh"]}}"#,
            r#"{"config":{},"Config":{"Cmd":["/bin/sh"]}}"#,
            r#"{"config":{},"config":{"Cmd":["/bin/sh"]}}"#,
            r#"{"container_config":{"Cmd":["/bin/sh"]}}"#,
        ] {
            assert!(!is_configuration(json.as_bytes()), "{json}");
        }
    }
}
