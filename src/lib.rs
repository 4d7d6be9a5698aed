//! ocipfs: an IPFS peer and an OCI registry in one process.
//!
//! A request falls through the layers from top to bottom; what comes back up is a value or a stream.
//!
//! ```text
//! cli        flags, environment, file; one file a subcommand
//! admin      probes and metrics of the process
//! page       the page for browsers: its files, and the data that it shows
//! control    what commands ask of an instance, over its socket or in the process
//! registry   the OCI distribution API: statuses and error codes
//! rpc        the RPC API of Kubo, beside it
//! http       listeners, users, where a request comes from
//! gateway    the trustless gateway, on the port of the registry
//! names      what a repository name and a reference mean
//! images     manifests, layers, synthesised images
//! content    blobs as UnixFS: stat, open, put
//! signatures which images have to be signed: policies, keys and the check
//! access     who may do what: rules, and nothing else
//! node       (crate) the swarm: blocks, peers, finding, announcing
//! oci        (crate) names, digests, ranges, descriptors: parsed once, then trusted
//! ```

#![warn(missing_docs)]

pub mod access;
pub mod admin;
pub mod allocator;
pub mod cli;
pub mod content;
pub mod control;
pub mod gateway;
pub mod http;
mod http_client;
pub mod images;
pub mod memory;
pub mod names;
pub mod page;
pub mod registry;
pub mod rpc;
pub mod signatures;
