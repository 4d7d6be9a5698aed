//! Two builds of ocipfs: each scenario is run by one and then the other, one round at a time, so that a busy machine
//! slows both.

use std::sync::Arc;

use crate::{
    Run,
    report::{Row, Target},
    scenarios::{Plan, Programs},
};

/// A build whose median is below this share of the other is the slower one.
const SHARE: f64 = 0.9;

/// Runs a scenario with both builds in turns, and shows how the figures of ocipfs compare.
pub fn in_turns(
    run: &Run,
    before: &Arc<Programs>,
    now: &Arc<Programs>,
    plan: Plan,
    show: impl FnMut(Row),
) -> Result<(), String> {
    let [mut older, mut newer] = [const { Vec::new() }; 2];
    for _ in 0..plan.few() {
        for (programs, rows) in [(before, &mut older), (now, &mut newer)] {
            let mut round = Vec::new();
            run.with(programs, Plan { rounds: 1, ..plan }, |row| round.push(row))?;
            collect(rows, round);
        }
    }
    let pairs = newer.into_iter().zip(&older);
    pairs.flat_map(|(now, before)| now.against(before, || Target::at_least(SHARE))).for_each(show);
    Ok(())
}

/// Adds the figures of one round to those of the rounds before it: a scenario shows the same rows each time.
fn collect(rows: &mut Vec<Row>, round: Vec<Row>) {
    for (at, row) in round.into_iter().enumerate() {
        match rows.get_mut(at) {
            Some(known) => known.extend(row),
            None => rows.push(row),
        }
    }
}
