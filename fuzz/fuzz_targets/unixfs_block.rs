//! Any bytes are a block of UnixFS or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ocipfs::content::fuzzing::decode_block(bytes));
