//! Model test of names: three machines that follow one name, two of which have its key, each with its own clock. They
//! publish, receive records, renew, restart and change their clocks in random order. That a complete root is always served, too, is
//! tested where roots are (the program's `names/follow/prefetch/model.rs`).

use std::time::{Duration, SystemTime};

use libp2p::identity::Keypair;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{IpnsNames, keys};
use crate::{IpnsName, routing::ipns};

const TTL: Duration = Duration::from_secs(60);
const WRITERS: usize = 2;
const MACHINES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Publish { writer: usize, value: u8 },
    Send { from: usize, to: usize },
    Renew { writer: usize },
    Queried { writer: usize },
    Restart { machine: usize },
    Clock { machine: usize, hours: i64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (writer, machine) = (0..WRITERS, 0..MACHINES);
    let step = prop_oneof![
        3 => (writer.clone(), 0_u8..4).prop_map(|(writer, value)| Step::Publish { writer, value }),
        6 => (machine.clone(), machine.clone()).prop_map(|(from, to)| Step::Send { from, to }),
        1 => writer.clone().prop_map(|writer| Step::Renew { writer }),
        1 => writer.prop_map(|writer| Step::Queried { writer }),
        1 => machine.clone().prop_map(|machine| Step::Restart { machine }),
        1 => (machine, -60_i64..60).prop_map(|(machine, hours)| Step::Clock { machine, hours }),
    ];
    prop::collection::vec(step, 1..40)
}

struct Machine {
    dir: TempDir,
    identity: Keypair,
    names: IpnsNames,
    now: SystemTime,
    /// The newest record that it accepted, by the rules alone.
    newest: Option<ipns::Record>,
    /// The highest sequence that it signed.
    signed: Option<u64>,
}

struct World {
    key: Keypair,
    name: IpnsName,
    machines: Vec<Machine>,
}

impl World {
    fn new() -> Self {
        let key = Keypair::generate_ed25519();
        let name = IpnsName::of(&key);
        let machines = (0..MACHINES).map(|n| {
            let (dir, identity) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
            if n < WRITERS {
                keys::import(dir.path(), "team", &key.to_protobuf_encoding().unwrap()).unwrap();
            }
            let names = IpnsNames::offline(dir.path(), &identity).unwrap();
            names.0.record_store.follow(name.peer()).unwrap();
            names.0.subscriptions.add(*name.peer(), None);
            Machine { dir, identity, names, now: SystemTime::now(), newest: None, signed: None }
        });
        Self { key: key.clone(), name, machines: machines.collect() }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Publish { writer, value } => self.publish(writer, value),
            Step::Send { from, to } => self.send(from, to),
            Step::Renew { writer } => self.renew(writer),
            Step::Queried { writer } => self.machines[writer].names.0.own.mark_queried(*self.name.peer()),
            Step::Restart { machine } => self.machines[machine].restart(),
            Step::Clock { machine, hours } => {
                let machine = &mut self.machines[machine];
                let by = Duration::from_secs(hours.unsigned_abs() * 3600);
                machine.now = if hours < 0 { machine.now - by } else { machine.now + by };
            }
        }
        for machine in &mut self.machines {
            machine.check_invariants(&self.name);
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
            "the sequence increases"
        );
        assert!(
            foreign.is_none_or(|foreign| signed.sequence() > foreign.sequence()),
            "it continues from the other one"
        );
    }

    /// Sends the newest record of one machine to another.
    fn send(&mut self, from: usize, to: usize) {
        let names = &self.machines[from].names;
        let Some(record) = names.own(&self.name).max(names.0.subscriptions.record(self.name.peer())) else {
            return;
        };
        let to = &mut self.machines[to];
        to.names.ingest(*self.name.peer(), record.bytes().to_vec(), to.now).unwrap();
        if record.until() > to.now {
            to.newest = to.newest.take().max(Some(record));
        }
    }

    /// Renews records after half of their lifetime, or after they expired.
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
        // The old instance is dropped first, since it locks the file.
        self.names = IpnsNames::offline(elsewhere.path(), &self.identity).unwrap();
        self.names = IpnsNames::offline(self.dir.path(), &self.identity).unwrap();
    }

    /// Checks the invariants.
    fn check_invariants(&mut self, name: &IpnsName) {
        let own = self.names.own(name).map(|own| own.sequence());
        assert!(own >= self.signed, "the sequence never falls: {own:?} after {:?}", self.signed);
        self.signed = own;
        // Expired or not, the newest record is used until a newer one arrives.
        assert_eq!(
            self.names.0.subscriptions.record(name.peer()),
            self.newest,
            "the newest record wins and is never lost"
        );
        let kept = self.names.last_followed_record(name.peer()).unwrap();
        assert_eq!(kept, self.newest, "it survives a restart");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ipns_sequence_never_decreases_and_the_newest_record_wins(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
        }
    }
}
