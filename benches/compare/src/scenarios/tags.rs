//! Pages of the tags of a repository that has many.

use super::{
    Room,
    turns::{Contender, Taken, in_turns},
};
use crate::{
    Failure,
    report::{Row, Target},
    server::{Ocipfs, Serve},
};

const TAGS: usize = 100_000;
/// Put with one manifest.
const AT_ONCE: usize = 100;
const PAGE: usize = 1000;

pub fn run(room: &Room) -> Result<(), Failure> {
    let node = Ocipfs::start(room, &Serve::default())?;
    let repository = node.repository("compare");
    let (config, layer) = (repository.bytes(b"{}")?, repository.bytes(b"layer")?);
    let count = if room.plan.quick { TAGS / 100 } else { TAGS };
    let name = |number: usize| format!("v{number:06}");
    for first in (0..count).step_by(AT_ONCE) {
        let more: Vec<String> = (first + 1..first + AT_ONCE).map(name).collect();
        repository.manifest(&name(first), &config, &layer, &more)?;
    }
    let page = |last: usize| {
        let url = repository.at(&format!("tags/list?n={PAGE}&last={}", name(last)));
        let (length, _, took) = url.timed()?;
        match length as usize > PAGE {
            true => Ok(Taken::new(took.as_secs_f64() * 1e3)),
            false => Err(format!("{url} gave {length} bytes").into()),
        }
    };
    let contenders = vec![
        Contender::in_unit("ms", "ocipfs, first pages", || page(0)),
        Contender::in_unit("ms", "ocipfs, last pages", || page(count - PAGE / 2)),
    ];
    let series = in_turns(room, room.plan.rounds.max(10), contenders);
    let row = Row::new("tags", format!("a page of {PAGE} of {count} tags"), series);
    let values: Vec<f64> = ["ocipfs, first pages", "ocipfs, last pages"]
        .iter()
        .flat_map(|who| row.values(who).to_vec())
        .collect();
    room.show(row.check("a page", "ms", &values, Target::at_most(20.0)));
    Ok(())
}
