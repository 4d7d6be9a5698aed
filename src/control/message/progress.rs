//! How far an operation is.

use serde::{Deserialize, Serialize};

/// How far a phase of an operation is. A phase ends with a message in which `done` is `total`, unless the operation fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is done at the moment, such as `import`; empty where the node is of an earlier version.
    #[serde(default)]
    pub phase: String,
    /// How much is done of this phase.
    pub done: u64,
    /// Of how much; none where it is not known yet.
    pub total: Option<u64>,
    /// What both are counted in.
    #[serde(default)]
    pub unit: Unit,
}

/// What progress is counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bytes.
    #[default]
    Bytes,
    /// Blocks.
    Blocks,
    /// Files.
    Files,
    /// Repositories.
    Repositories,
}

#[cfg(test)]
mod tests {
    use super::{Progress, Unit};
    use crate::control::Note;

    #[test]
    fn progress_of_an_earlier_node_is_understood() {
        let earlier = r#"{"progress":{"done":3,"total":null}}"#;
        let expected = Progress { done: 3, ..Progress::default() };
        assert_eq!(serde_json::from_str::<Note>(earlier).unwrap(), Note::Progress(expected));
    }

    #[test]
    fn an_earlier_command_finds_the_fields_that_it_knows() {
        let progress = Progress { phase: "mark".into(), done: 3, total: Some(4), unit: Unit::Blocks };
        assert_eq!(
            serde_json::to_value(Note::Progress(progress)).unwrap(),
            serde_json::json!({"progress": {"phase": "mark", "done": 3, "total": 4, "unit": "blocks"}})
        );
    }
}
