//! Model test of names: three machines, two of which have the key of a name that all follow, with clocks of their own.
//! They publish, hear of each other's records, renew, restart, and their clocks step, in random order.

use std::time::{Duration, SystemTime};

use libp2p::identity::Keypair;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{Name, Names, keys};
use crate::routing::ipns;

const TTL: Duration = Duration::from_secs(60);
const WRITERS: usize = 2;
const MACHINES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Publish { writer: usize, value: u8 },
    Tell { from: usize, to: usize },
    Renew { writer: usize },
    Asked { writer: usize },
    Restart { machine: usize },
    Clock { machine: usize, hours: i64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (writer, machine) = (0..WRITERS, 0..MACHINES);
    let step = prop_oneof![
        3 => (writer.clone(), 0_u8..4).prop_map(|(writer, value)| Step::Publish { writer, value }),
        6 => (machine.clone(), machine.clone()).prop_map(|(from, to)| Step::Tell { from, to }),
        1 => writer.clone().prop_map(|writer| Step::Renew { writer }),
        1 => writer.prop_map(|writer| Step::Asked { writer }),
        1 => machine.clone().prop_map(|machine| Step::Restart { machine }),
        1 => (machine, -60_i64..60).prop_map(|(machine, hours)| Step::Clock { machine, hours }),
    ];
    prop::collection::vec(step, 1..40)
}

struct Machine {
    dir: TempDir,
    identity: Keypair,
    names: Names,
    now: SystemTime,
    /// The newest of the records that it took, by the rules alone.
    heard: Option<ipns::Record>,
    /// The greatest sequence that it signed.
    signed: Option<u64>,
}

struct World {
    key: Keypair,
    name: Name,
    machines: Vec<Machine>,
}

impl World {
    fn new() -> Self {
        let key = Keypair::generate_ed25519();
        let name = Name::of(&key);
        let machines = (0..MACHINES).map(|n| {
            let (dir, identity) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
            if n < WRITERS {
                keys::import(dir.path(), "team", &key.to_protobuf_encoding().unwrap()).unwrap();
            }
            let names = Names::offline(dir.path(), &identity).unwrap();
            names.0.kept.follow(name.peer()).unwrap();
            names.0.hearing.add(*name.peer(), None);
            Machine { dir, identity, names, now: SystemTime::now(), heard: None, signed: None }
        });
        Self { key: key.clone(), name, machines: machines.collect() }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Publish { writer, value } => self.publish(writer, value),
            Step::Tell { from, to } => self.tell(from, to),
            Step::Renew { writer } => self.renew(writer),
            Step::Asked { writer } => self.machines[writer].names.0.own.mark_asked(*self.name.peer()),
            Step::Restart { machine } => self.machines[machine].restart(),
            Step::Clock { machine, hours } => {
                let machine = &mut self.machines[machine];
                let by = Duration::from_secs(hours.unsigned_abs() * 3600);
                machine.now = if hours < 0 { machine.now - by } else { machine.now + by };
            }
        }
        for machine in &mut self.machines {
            machine.holds(&self.name);
        }
    }

    fn publish(&mut self, writer: usize, value: u8) {
        let Machine { names, now, .. } = &self.machines[writer];
        let before = names.own(&self.name);
        let foreign = names.foreign(self.name.peer()).unwrap();
        names.0.own.mark_published(*self.name.peer());
        let value = format!("/ipfs/{value}").into_bytes();
        let signed = names.sign(&self.key, value.clone(), TTL, *now).unwrap();
        assert_eq!((signed.value(), signed.until() > *now), (&value[..], true));
        let is_other = before.as_ref().is_some_and(|before| before.value() != value);
        assert!(
            !is_other || Some(signed.sequence()) > before.map(|before| before.sequence()),
            "it counts up"
        );
        assert!(
            foreign.is_none_or(|foreign| signed.sequence() > foreign.sequence()),
            "also from the other's"
        );
    }

    /// Tells the newest record of one machine to another.
    fn tell(&mut self, from: usize, to: usize) {
        let names = &self.machines[from].names;
        let Some(record) = names.own(&self.name).max(names.0.hearing.head(self.name.peer())) else { return };
        let to = &mut self.machines[to];
        to.names.hear(*self.name.peer(), record.bytes().to_vec(), to.now).unwrap();
        if record.until() > to.now {
            to.heard = to.heard.take().max(Some(record));
        }
    }

    /// Signs again what lived half of its life, or expired.
    fn renew(&mut self, writer: usize) {
        let Machine { names, now, .. } = &self.machines[writer];
        names.due(*now).unwrap();
        if names.own(&self.name).is_some_and(|own| own.until() <= *now) {
            let before = names.own(&self.name).unwrap();
            let moved = names.foreign(self.name.peer()).unwrap();
            let moved =
                moved.is_some_and(|foreign| foreign.until() > *now && foreign.value() != before.value());
            assert_eq!(names.renew(&self.key, None, *now).unwrap(), !moved);
        }
    }
}

impl Machine {
    fn restart(&mut self) {
        let elsewhere = tempfile::tempdir().unwrap();
        // The file is locked by its owner, which goes first.
        self.names = Names::offline(elsewhere.path(), &self.identity).unwrap();
        self.names = Names::offline(self.dir.path(), &self.identity).unwrap();
    }

    /// Holds what must always be so.
    fn holds(&mut self, name: &Name) {
        let own = self.names.own(name).map(|own| own.sequence());
        assert!(own >= self.signed, "the sequence never falls: {own:?} after {:?}", self.signed);
        self.signed = own;
        // Expired or not: what was the newest is served until a newer one comes.
        assert_eq!(
            self.names.0.hearing.head(name.peer()),
            self.heard,
            "the newest record wins and is never lost"
        );
        let kept = self.names.last_head(name.peer()).unwrap();
        assert_eq!(kept, self.heard, "also over a restart");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_sequence_never_falls_and_the_newest_record_wins_whatever_restarts_and_clocks_do(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
    }
}
