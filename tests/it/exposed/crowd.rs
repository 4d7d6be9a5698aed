//! Clients that do not read what they asked for.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use libtest_mimic::Trial;

use crate::{
    bad_input::Memory,
    harness::{Layer, Serve, noise, trials},
    http::{begin, get},
};

const DEAF: usize = 300;

pub fn trials() -> Vec<Trial> {
    trials![clients_that_do_not_read_take_bounded_memory_while_another_download_finishes]
}

async fn clients_that_do_not_read_take_bounded_memory_while_another_download_finishes() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(64 << 20));
    let memory = Memory::watch(&node);
    let deaf: Vec<TcpStream> = (0..DEAF).map(|_| begin(node.registry(), &layer.blob_path())).collect();
    let answer = get(&node.url(&layer.blob_path())).await;
    assert!(answer.status == 200 && answer.body == layer.bytes);
    memory.was_bounded();
    // They are still connected, and go on when they read.
    let mut one = deaf.into_iter().last().expect("a client");
    let mut some = vec![0; 8 << 20];
    one.read_exact(&mut some).expect("more comes");
    one.flush().expect("it is open");
}
