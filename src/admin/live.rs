//! The metrics that are read from the node at each scrape.

use std::{
    fmt::{self, Debug, Formatter},
    sync::Arc,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::{observed::Observed, process::Process, sample::Sample};
use crate::control::Instance;

/// Reads what is observed.
pub struct Live(pub Arc<Observed>);

impl Debug for Live {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl Collector for Live {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Out(encoder);
        out.gauge("ocipfs_ready", "Whether /readyz answers 200", u64::from(self.0.is_ready()))?;
        if let Some(instance) = self.0.instance() {
            swarm(&mut out, instance)?;
            garbage(&mut out, instance)?;
        }
        if let Some(sample) = self.0.sample() {
            sampled(&mut out, &sample)?;
        }
        Process::read().map_or(Ok(()), |process| of_process(&mut out, &process))
    }
}

/// Writes single values.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge<N: EncodeGaugeValue>(&mut self, name: &str, help: &str, value: N) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        let help = format!("{help}.");
        gauge.encode(self.0.encode_descriptor(name, &help, None, gauge.metric_type())?)
    }

    /// The name that is shown ends in `_total`.
    fn counter<N: EncodeCounterValue>(&mut self, name: &str, help: &str, value: N) -> fmt::Result {
        let counter = ConstCounter::new(value);
        let help = format!("{help}.");
        counter.encode(self.0.encode_descriptor(name, &help, None, counter.metric_type())?)
    }
}

fn swarm(out: &mut Out, instance: &Instance) -> fmt::Result {
    let node = instance.content().node();
    out.gauge("ocipfs_peers", "Connected peers", node.peers().len() as u64)?;
    let help = "HTTP servers that are asked for blocks";
    out.gauge("ocipfs_http_providers", help, node.http_providers() as u64)?;
    let traffic = node.traffic();
    out.counter("ocipfs_bitswap_sent_blocks", "Blocks sent to peers", traffic.sent_blocks)?;
    out.counter("ocipfs_bitswap_sent_bytes", "Bytes of blocks sent to peers", traffic.sent_bytes)?;
    out.counter("ocipfs_bitswap_received_blocks", "Blocks received from peers", traffic.received_blocks)?;
    let help = "Bytes of blocks received from peers";
    out.counter("ocipfs_bitswap_received_bytes", help, traffic.received_bytes)
}

fn garbage(out: &mut Out, instance: &Instance) -> fmt::Result {
    let totals = instance.content().gc_totals();
    out.counter("ocipfs_gc_runs", "Collections of unreferenced content", totals.runs)?;
    out.counter(
        "ocipfs_gc_freed_bytes",
        "Bytes of unreferenced content that was deleted",
        totals.freed_bytes,
    )?;
    out.counter("ocipfs_evictions", "Evictions of cached content", totals.evictions)?;
    let help = "Bytes of cached content that was evicted";
    out.counter("ocipfs_evicted_bytes", help, totals.evicted_bytes)?;
    let (cache_size, max_size) = instance.content().limits();
    if let Some(bytes) = cache_size {
        out.gauge("ocipfs_store_cache_limit_bytes", "The limit of --cache-size", bytes as f64)?;
    }
    match max_size {
        Some(bytes) => out.gauge("ocipfs_store_limit_bytes", "The limit of --max-size", bytes as f64),
        None => Ok(()),
    }
}

fn sampled(out: &mut Out, sample: &Sample) -> fmt::Result {
    let help = "Roots that at least one peer has taken the record of";
    out.gauge("ocipfs_announced_roots", help, sample.announced)?;
    out.gauge("ocipfs_announce_pending_roots", "Roots that no peer has taken yet", sample.announcing)?;
    let help = "How long the root that waited longest has been due to be announced; 0 without peers";
    out.gauge("ocipfs_announce_lag_seconds", help, sample.announce_lag.as_secs_f64())?;
    out.gauge("ocipfs_followed_names", "Names that are followed", sample.followed)?;
    let help = "How long the newest root of a followed name has been known and not fetched, of the name furthest behind";
    out.gauge("ocipfs_followed_lag_seconds", help, sample.followed_lag.as_secs_f64())?;
    out.gauge("ocipfs_repositories", "Pushed repositories", sample.repositories)?;
    out.gauge("ocipfs_store_bytes", "Bytes of content that is stored or arriving", sample.used_bytes)?;
    out.gauge("ocipfs_store_index_bytes", "Size of the index file", sample.index_bytes)?;
    let uploads = &sample.uploads;
    out.gauge("ocipfs_uploads", "Uploads that received something within a minute", uploads.under_way)?;
    out.gauge("ocipfs_uploads_bytes", "Bytes of these uploads", uploads.under_way_bytes)?;
    out.gauge("ocipfs_uploads_abandoned", "Uploads that received nothing for longer", uploads.abandoned)?;
    out.gauge("ocipfs_uploads_abandoned_bytes", "Bytes of abandoned uploads", uploads.abandoned_bytes)
}

fn of_process(out: &mut Out, process: &Process) -> fmt::Result {
    out.counter("process_cpu_seconds", "Processor time", process.cpu_seconds)?;
    out.gauge("process_resident_memory_bytes", "Resident memory", process.resident_bytes)?;
    out.gauge("process_virtual_memory_bytes", "Virtual memory", process.virtual_bytes)?;
    out.gauge("process_threads", "Threads", process.threads)?;
    out.gauge("process_start_time_seconds", "Start of the process, in seconds since 1970", process.started)?;
    out.gauge("process_open_fds", "Open files and sockets", process.open_files)?;
    out.gauge("process_max_fds", "Maximum of open files and sockets", process.max_files as f64)
}
