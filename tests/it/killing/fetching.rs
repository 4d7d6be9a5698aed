use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use ocipfs_oci::Digest;
use tempfile::TempDir;

use super::{Got, Known, chance::Chance, kills, nothing_is_left, pull};
use crate::harness::{Serve, tar_of};

/// Bytes on their way to a reader.
const IN_FLIGHT: u64 = 40 << 20;
/// Maximum loss in a crash: bytes since the last checkpoint began, and bytes in flight.
const LOST_BY_A_KILL: u64 = (64 << 20) + IN_FLIGHT;
/// Bytes of the blocks that lead to a layer's bytes, and bytes in flight that come twice: a reader asks again after 3 s of silence,
/// which a busy machine may take.
const BESIDE: u64 = (1 << 20) + IN_FLIGHT;
/// Attempts at one layer that are not cut short; more would mean that it does not go on.
const ATTEMPTS: u32 = 20;

#[derive(Debug, Default)]
struct Counts {
    kills_of_readers: u32,
    kills_of_sources: u32,
    fetches_completed: u32,
    mib_of_layers: u64,
    mib_sent: u64,
}

/// Two node directories that outlive their nodes.
struct Scene {
    dirs: [TempDir; 2],
    source: Option<Serve>,
    chance: Chance,
    counts: Counts,
    /// Time per MiB of the last fetch without a kill.
    pace: Duration,
    /// Sent by sources that were killed.
    sent_before: u64,
}

impl Scene {
    fn source(&mut self) -> &Serve {
        let dir = self.dirs[0].path();
        self.source.get_or_insert_with(|| Serve::start_in(dir, &[]))
    }

    fn reader(&self) -> Serve {
        let reader = Serve::start_in(self.dirs[1].path(), &["--stall-timeout", "3s", "--find-timeout", "2s"]);
        nothing_is_left(&reader);
        reader
    }

    fn meet(&mut self, reader: &Serve) {
        let address = self.source().address().to_string();
        assert_eq!(reader.command(&["swarm", "connect", &address]).code, Some(0));
    }

    fn add(&mut self) -> Known {
        let size = (64 + self.chance.below(193)) << 20;
        let bytes = self.chance.bytes(size as usize);
        let node = self.source();
        let path = tar_of(node.data_dir(), "layer.tar", &bytes);
        let reference = node.ask(&["-q", "layer", "add", path.to_str().expect("UTF-8")]);
        let stored = fs::read(&path).expect("the tar");
        let name = reference.split_once('/').expect("a registry").1.rsplit_once(':').expect("a tag").0.into();
        Known { name, digest: Digest::sha256_of(&stored), size: stored.len() as u64 }
    }

    fn sent(&mut self) -> u64 {
        let now = self.source().status()["sent_bytes"].as_u64().expect("a number");
        self.sent_before + now
    }

    fn kills(&self) -> u32 {
        self.counts.kills_of_readers + self.counts.kills_of_sources
    }

    /// Pulls, kills one of the two meanwhile, and gives what the client got and the reader where it lives.
    async fn pull_and_kill(&mut self, reader: Serve, layer: &Known, is_first: bool) -> (Got, Option<Serve>) {
        let (start, mib) = (Instant::now(), (layer.size >> 20) as u32);
        let mut pulling = tokio::spawn(pull(layer.url(&reader), layer.clone()));
        let moment = self.chance.moment(self.pace * mib * 5 / 4);
        if let Ok(got) = tokio::time::timeout(moment, &mut pulling).await {
            let got = got.expect("it holds");
            if got == Got::Whole && is_first {
                self.pace = start.elapsed() / mib;
            }
            return (got, Some(reader));
        }
        let reader = match self.chance.below(5) {
            0 => {
                self.sent_before = self.sent();
                self.source.take().expect("it runs").kill();
                self.counts.kills_of_sources += 1;
                Some(reader)
            }
            _ => {
                reader.kill();
                self.counts.kills_of_readers += 1;
                None
            }
        };
        (pulling.await.expect("it holds"), reader)
    }

    /// Fetches a layer, however often one of the two is killed; its whole story.
    async fn fetch(&mut self, layer: &Known) {
        let (before, killed_before) = (self.sent(), self.kills());
        for attempt in 0..ATTEMPTS + kills() {
            let reader = self.reader();
            // Alone: what is here of it has no good end.
            if self.chance.below(4) == 0 {
                let got = pull(layer.url(&reader), layer.clone()).await;
                assert_ne!(got, Got::Refused(500), "{}", reader.log());
            }
            self.meet(&reader);
            let (got, reader) = self.pull_and_kill(reader, layer, attempt == 0).await;
            if got == Got::Whole {
                drop(reader.map(Serve::kill));
                let (sent, killed) = (self.sent() - before, self.kills() - killed_before);
                assert!(
                    sent <= layer.size + BESIDE + u64::from(killed) * LOST_BY_A_KILL,
                    "{sent} B for {layer:?}, {killed} kills"
                );
                self.counts.fetches_completed += 1;
                self.counts.mib_of_layers += layer.size >> 20;
                self.counts.mib_sent += sent >> 20;
                return;
            }
        }
        panic!("it does not go on");
    }

    /// Holds that what a client got whole is here without its source, then makes room for others.
    async fn is_kept(&mut self, layer: &Known) {
        let reader = self.reader();
        assert_eq!(pull(layer.url(&reader), layer.clone()).await, Got::Whole, "it was acknowledged");
        for node in [&reader, self.source()] {
            let said = node.command(&["layer", "rm", &layer.name]);
            assert_eq!(said.code, Some(0), "{}", said.stderr);
        }
    }
}

pub async fn a_download_is_resumed_after_sigkill_and_no_partial_blob_is_served() {
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let chance = Chance::new("killed while fetching");
    let pace = Duration::from_millis(20);
    let mut scene = Scene { dirs, source: None, chance, counts: Counts::default(), pace, sent_before: 0 };
    while scene.kills() < kills() {
        let layer = scene.add();
        scene.fetch(&layer).await;
        scene.is_kept(&layer).await;
    }
    let is_empty = |dir: &Path| fs::read_dir(dir.join("incoming")).expect("a directory").next().is_none();
    assert!(scene.dirs.iter().all(|dir| is_empty(dir.path())), "all that was begun was finished");
    eprintln!("killed while fetching: {:?}", scene.counts);
}
