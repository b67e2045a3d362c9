//! What each codec makes of blocks, and what it takes: the figures of `docs/guide/compression.md`.
//!
//! `cargo run --release -p pugdb-lsm --example codecs`

use bytes::BytesMut;
use pugdb_core::Result;
use pugdb_core::env::Env;
use pugdb_lsm::table::Compression;
use pugdb_lsm::table::compression::{Compressor, unpack};

const BLOCKS: usize = 200;
/// The quickest of so many counts: others use the machine, too.
const ROUNDS: usize = 7;
const CODECS: [&str; 9] =
    ["none", "lz4", "snappy", "zstd:1", "zstd:3", "zstd:9", "gzip:1", "gzip:6", "gzip:9"];

fn main() -> Result<()> {
    type Content = fn(&mut fastrand::Rng, usize) -> Vec<u8>;
    let contents: [(&str, Content); 3] = [
        ("random, 100 B", random),
        ("JSON rows, about 90 B", rows),
        ("JSON documents, about 900 B", documents),
    ];
    for (name, content) in contents {
        for block_bytes in [8 << 10, 32 << 10] {
            let mut rng = fastrand::Rng::with_seed(1);
            let blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| content(&mut rng, block_bytes)).collect();
            line(&format!("{name}, blocks of {} KiB", block_bytes >> 10));
            for codec in CODECS {
                measure(codec.parse()?, &blocks)?;
            }
        }
    }
    Ok(())
}

fn measure(compression: Compression, blocks: &[Vec<u8>]) -> Result<()> {
    let clock = Env::os().clock;
    let (mut packing, mut unpacking) = (u128::MAX, u128::MAX);
    let mut packed: Vec<Vec<u8>> = Vec::new();
    for _ in 0..ROUNDS {
        let mut compressor = Compressor::new(compression)?;
        packed = blocks.to_vec();
        let start = clock.monotonic();
        for block in &mut packed {
            compressor.pack(block, 0);
        }
        packing = packing.min(clock.monotonic().saturating_sub(start).as_nanos());
        let stored: Vec<BytesMut> = packed.iter().map(|block| BytesMut::from(&block[..])).collect();
        let start = clock.monotonic();
        for (block, stored) in blocks.iter().zip(stored) {
            assert_eq!(unpack(stored)?.len(), block.len());
        }
        unpacking = unpacking.min(clock.monotonic().saturating_sub(start).as_nanos());
    }
    let bytes = |blocks: &[Vec<u8>]| blocks.iter().map(Vec::len).sum::<usize>();
    let percent = bytes(&packed) * 100 / bytes(blocks);
    let each = |nanoseconds: u128| nanoseconds / (10 * BLOCKS as u128);
    line(&format!(
        "  {:8} {percent:3} % of the size, {:4}.{:02} us to compress, {:3}.{:02} us to decompress a block",
        compression.to_string(),
        each(packing) / 100,
        each(packing) % 100,
        each(unpacking) / 100,
        each(unpacking) % 100,
    ));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "it is what the example is for")]
fn line(text: &str) {
    println!("{text}");
}

/// As entries lie in a block: seqno, flags and lengths, key, value.
fn entry(block: &mut Vec<u8>, number: u64, key: &str, value: &[u8]) {
    block.extend_from_slice(&(1_000_000 + number).to_le_bytes());
    block.extend_from_slice(&[1, 24, 100]);
    block.extend_from_slice(key.as_bytes());
    block.extend_from_slice(value);
}

/// YCSB's: printable bytes without any order.
fn random(rng: &mut fastrand::Rng, bytes: usize) -> Vec<u8> {
    let mut block = Vec::new();
    while block.len() < bytes {
        let value: Vec<u8> = (0..100).map(|_| rng.u8(b' '..=b'~')).collect();
        entry(&mut block, rng.u64(..100_000), &format!("user{:020}", rng.u64(..)), &value);
    }
    block
}

fn rows(rng: &mut fastrand::Rng, bytes: usize) -> Vec<u8> {
    let mut block = Vec::new();
    let mut id = rng.u64(..1 << 30);
    while block.len() < bytes {
        id += rng.u64(1..50);
        let value = format!(
            "{{\"id\":{id},\"user\":\"{:08x}\",\"status\":\"{}\",\"amount\":{}.{:02},\"at\":17{:08}}}",
            rng.u32(..),
            ["open", "paid", "shipped", "cancelled"][rng.usize(..4)],
            rng.u32(1..5000),
            rng.u32(..100),
            rng.u32(..100_000_000)
        );
        entry(&mut block, rng.u64(..100_000), &format!("order:{id:018}"), value.as_bytes());
    }
    block
}

const WORDS: [&str; 40] = [
    "the", "of", "and", "a", "to", "in", "store", "key", "value", "that", "is", "for", "it", "as", "was",
    "with", "be", "by", "on", "not", "table", "log", "disk", "memory", "write", "read", "from", "at",
    "which", "this", "or", "block", "sync", "crash", "order", "snapshot", "batch", "merge", "flush",
    "engine",
];

fn documents(rng: &mut fastrand::Rng, bytes: usize) -> Vec<u8> {
    let mut block = Vec::new();
    let mut id = rng.u64(..1 << 30);
    while block.len() < bytes {
        id += rng.u64(1..50);
        let text: Vec<&str> = (0..110).map(|_| WORDS[(rng.usize(..40) * rng.usize(..40)) / 40]).collect();
        let value = format!(
            "{{\"id\":{id},\"author\":\"user{:05}\",\"title\":\"{}\",\"tags\":[\"{}\",\"{}\"],\"likes\":{},\"text\":\"{}\"}}",
            rng.u32(..100_000),
            text[..6].join(" "),
            WORDS[rng.usize(..40)],
            WORDS[rng.usize(..40)],
            rng.u32(..1000),
            text.join(" ")
        );
        entry(&mut block, rng.u64(..100_000), &format!("document:{id:015}"), value.as_bytes());
    }
    block
}
