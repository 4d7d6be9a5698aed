//! Any bytes are a Bitswap message or refused; what was read is written and read again as the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ocipfs_bitswap::wire::{Message, Version};

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = Message::decode(Bytes::copy_from_slice(bytes)) else { return };
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        let written = message.encode(version).concat();
        let start = written.iter().position(|byte| byte & 0x80 == 0).expect("a length") + 1;
        let again = Message::decode(written[start..].to_vec().into()).expect("it was written here");
        if version == Version::V1_2 {
            assert_eq!(again, message);
        }
    }
});
