//! Several doing the same, in turns: A B C A B C, so that a busy machine slows all of them.

use std::time::Duration;

use super::Room;
use crate::{Failure, report::Series};

/// Result of one turn.
pub struct Taken {
    pub value: f64,
    pub memory_mb: Option<f64>,
}

impl Taken {
    pub fn new(value: f64) -> Self {
        Self { value, memory_mb: None }
    }

    /// MB (10^6 bytes) a second.
    pub fn rate(bytes: u64, took: Duration) -> Self {
        Self::new(bytes as f64 / 1e6 / took.as_secs_f64())
    }

    pub fn with_memory(self, mb: f64) -> Self {
        Self { memory_mb: Some(mb), ..self }
    }
}

/// One who takes turns.
pub struct Contender<'a> {
    series: Series,
    turn: Box<dyn Fn() -> Result<Taken, Failure> + 'a>,
}

impl<'a> Contender<'a> {
    /// One whose figures are MB a second.
    pub fn new(who: impl Into<String>, turn: impl Fn() -> Result<Taken, Failure> + 'a) -> Self {
        Self::in_unit("MB/s", who, turn)
    }

    pub fn in_unit(
        unit: &'static str,
        who: impl Into<String>,
        turn: impl Fn() -> Result<Taken, Failure> + 'a,
    ) -> Self {
        Self { series: Series::new(who, unit), turn: Box::new(turn) }
    }
}

/// Gives each its turn in each round; who fails has no further ones, and the others go on.
pub fn in_turns(room: &Room, rounds: usize, mut contenders: Vec<Contender>) -> Vec<Series> {
    for _ in 0..rounds {
        for Contender { series, turn } in &mut contenders {
            if series.has_failed() {
                continue;
            }
            room.settle();
            match turn() {
                Ok(Taken { value, memory_mb }) => {
                    series.push(value);
                    memory_mb.into_iter().for_each(|mb| series.saw_memory(mb));
                }
                Err(error) => series.fail(error.to_string()),
            }
        }
    }
    contenders.into_iter().map(|contender| contender.series).collect()
}
