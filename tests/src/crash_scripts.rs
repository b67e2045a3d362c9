//! The scripts of the crash suites, and what is done with them.

use std::io;

use pugdb_sim::World;

use crate::crash::{Dress, Run};

/// Only the log: no table is ever written.
pub const LOG_ONLY: &str = "
    create users
    put users a 1
    os users b 2*40
    create names
    batch users a 2; names x 9; users -b
    ticket users c 3
    ticket users d 4*700
    wait
    os users e 5
    put users f 6*3000
    put users g 7*6000
    os users h 8
    tick
    delete users a
    os names y 1
    reopen
    put names z 3
    truncate users
    os users a 4
    tick
    swap users names
    os names b 5
    batch truncate names; names c 1; users d 2
    swap names users
    drop names
    put users b 5
    create names
    batch users c 6; names q 2
    close
    put names q 3
    os users z 1
";

/// Memtables are flushed and runs merged, with keyspaces coming and going between.
pub const TABLES: &str = "
    create users
    create names
    put users a 1*1000
    os users b 2*1000
    os names x 3*1000
    flush
    delete users a
    os users c 4*3000
    os users d 5*3000
    step
    batch users e 6*2000; names x 7*2000; users -b
    step
    flush
    truncate names
    os names y 8*1000
    os users f 9*4000
    flush
    swap users names
    swap users names
    batch truncate names; names y 3; users f 9*4000
    swap users names
    step
    os users g 1*4000
    jobs
    put users h 2
    flush
    jobs
    drop names
    os users i 3*4000
    jobs
    create names
    put names n 4*4000
    flush
    reopen
    os users a 5*4000
    step
    os users b 6*4000
    jobs
    os names c 7*4000
    put users k 8
    flush
    jobs
    tick
    close
    os users l 9*4000
    jobs
    put users m 1
";

/// Range deletes over tables, memtables and both, with flushes and merges between: tables go unread, others are written
/// anew, and what hides nothing any more is forgotten.
pub const RANGES: &str = "
    create users
    create names
    os users a 1*3000
    os users b 2*3000
    os names x 3*3000
    flush
    range users b d
    step
    os users c 4*1000
    flush
    jobs
    batch users b 5*1000; range users a b; users a 6; range names a
    step
    os users d 7*3000
    flush
    reopen
    range users b c
    jobs
    os users e 8*3000
    batch range users d f; users d 9
    close
    range users a
    jobs
    os users a 1*3000
    os users f 2*3000
    flush
    swap users names
    range names b
    flush
    jobs
    tick
    os names c 3*4000
    range names c d
    step
    truncate names
    range names a
    os names g 4*4000
    jobs
    reopen
    put users k 5
    flush
    jobs
";

/// Operands over tables, memtables and both, above puts, deletes, range deletes and truncations, with flushes and merges
/// between: they are folded with what lies beneath, here and there, and never twice.
pub const OPERANDS: &str = "
    create users
    create names
    put users a 1*300
    os users +a 2*300
    os users +b 3*1000
    os names +x 4*3000
    flush
    put users +a 5*20
    batch users +a 6; users +b 7; names +x 8; users c 9; users +c 1; users +c 2
    scratch +a 1*500
    step
    os users +a 3*3000
    flush
    jobs
    delete users b
    put users +b 1*100
    scratch +a 2*3000
    flush
    range users a b
    os users +a 4*2000
    jobs
    reopen
    put users +a 5
    os users +b 6*3000
    scratch b 1
    scratch +b 2*3000
    flush
    truncate names
    os names +x 7*2000
    step
    swap users names
    put names +a 8
    os users +x 9*3000
    jobs
    close
    os names +a 1*4000
    os names +b 2*4000
    flush
    jobs
    swap users names
    scratch +a 3*100
    os users +a 4*10
    flush
    tick
    reopen
    put users +a 5
    flush
    jobs
    put users +c 6
";

/// Tables are written before the log was ever synced: what they hold must not outlive what came before it.
pub const FLUSH_BEFORE_SYNC: &str = "
    create users
    create names
    os names x 1
    os users a 2*5000
    jobs
    os names x 2
    os names y 3
    os users b 4*5000
    step
    os names z 5
    os users c 6*5000
    jobs
    drop names
    os users d 7*5000
    jobs
    os users e 8
";

/// Memtables of several keyspaces are sealed and flushed together; one is dropped between two steps of that.
pub const GROUPS: &str = "
    create users
    create names
    create places
    create dates
    put users a 1*300
    os names x 2*300
    os places p 3*300
    os dates d 4*300
    flush
    os users a 5*4000
    os names x 6*200
    batch places p 7*200; dates d 7*200; names -x
    step
    os names y 8*4000
    os places q 8*4000
    step
    step
    drop places
    step
    step
    step
    put dates d 9
    jobs
    truncate names
    os names z 1*200
    os users b 1*200
    create places
    os places p 2*200
    flush
    reopen
    os users c 3*200
    os dates e 3*200
    os places r 3*200
    close
    put users d 4
    delete dates d
    os places r 5*200
    flush
    jobs
    put names w 1
";

/// A keyspace without a log beside others: it is flushed, or lost, by itself, and takes nothing of theirs with it.
pub const UNLOGGED: &str = "
    create users
    scratch a 1*1000
    put users a 1
    scratch b 2*1000
    os users b 2*700
    scratch a 3*1000
    flush
    scratch -b
    os users c 3*3000
    scratch c 4*2000
    step
    scratch range a c
    scratch d 5*2000
    jobs
    scratch a 6
    reopen
    scratch b 7*3000
    put users d 4
    scratch truncate
    scratch e 8*3000
    os users e 5
    scratch f 9*3000
    step
    jobs
    scratch g 1
    flush
    truncate users
    scratch h 2*3000
    scratch range e g
    jobs
    scratch f 1*3000
    scratch range d h
    step
    jobs
    scratch e 2*100
    flush
    os users a 6*3000
    scratch truncate
    jobs
    close
    scratch i 3
    put users f 7
    scratch j 4*4000
    scratch range a j
    jobs
    scratch k 5*100
    scratch a 1*100
    flush
    scratch range a c
    scratch x 1*5000
    scratch range a d
    jobs
    put users g 8
";

/// Partitions by hash and by range are split and merged, with and without entries in memory, tables and value files, and with a
/// drop, a truncation and a swap of names around it.
pub const PARTITIONS: &str = "
    hash users 2
    ranges names c m
    os users a 1*300
    os users b 2*3000
    os names x 3*300
    batch users c 4*300; names d 4*300; users d 4; names n 4
    split users 0
    os users a 5*300
    flush
    delete users b
    os names +d 6*100
    split names 1 e
    step
    batch users e 7*1000; names e 7*1000; names f 7; range names n z
    jobs
    merge users 1
    os users f 8*4000
    os names g 8*4000
    step
    reopen
    os users g 9
    merge names 0
    os names a 1*2000
    step
    truncate users
    os users h 2*2000
    split users 1
    close
    os users k 3*4000
    swap users names
    split users 0 d
    jobs
    os users +x 4*3000
    flush
    drop names
    hash names 3
    os names a 5*3000
    merge names 1
    jobs
    put names b 6
";

/// How many calls to the disk the script makes when nothing goes wrong.
pub fn calls(seed: u64, script: &str, dress: Dress) -> u64 {
    let mut run = Run::new(World::new(seed), dress);
    run.script(script);
    assert!(run.errors.is_empty(), "{:?}", run.errors);
    run.world.calls()
}

/// A run that is cut at call number `call`, its handles dropped.
pub fn run_until(world: World, script: &str, dress: Dress, call: u64) -> Run {
    world.stop_at(call);
    let mut run = Run::new(world, dress);
    run.script(script);
    run.drop_handles();
    run
}

/// Cuts the script at every `stride`-th call; after each, several power cuts and a kill.
pub fn cut_at_calls(seed: u64, script: &str, dress: Dress, stride: usize, prepare: &dyn Fn(&World)) {
    let calls = calls(seed, script, dress);
    for call in (1 + seed % stride as u64..=calls).step_by(stride) {
        let world = World::new(seed);
        prepare(&world);
        let mut run = run_until(world, script, dress, call);
        for cut in 0..4 {
            let after = run.world.power_cut();
            run.check_after(
                &after,
                run.synced,
                &format!("seed {seed}, call {call} of {calls}, power cut {cut}"),
            );
        }
        let after = run.world.kill();
        run.check_after(&after, run.written, &format!("seed {seed}, call {call} of {calls}, kill"));
    }
}

/// Cuts the script, and then the recovery, and then the recovery from that.
pub fn cut_recovery(seed: u64, script: &str, dress: Dress, stride: usize) {
    let calls = calls(seed, script, dress);
    for call in (1 + seed % stride as u64..=calls).step_by(stride) {
        let mut run = run_until(World::new(seed), script, dress, call);
        for is_kill in [false, true] {
            let from = if is_kill { run.written } else { run.synced };
            let mut second = 1;
            loop {
                let after = if is_kill { run.world.kill() } else { run.world.power_cut() };
                after.stop_at(second);
                let opened = crate::crash::open(&after, dress);
                let is_over = opened.is_ok();
                drop(opened);
                // What a kill left was perhaps in the cache only: the cut that follows may take it.
                let (third, from) = (after.power_cut(), if is_kill { run.synced.min(from) } else { from });
                run.check_after(&third, from, &format!("seed {seed}, call {call}, recovery call {second}"));
                if is_over {
                    break;
                }
                second += 7;
            }
        }
    }
}

/// Fails call after call, each in a run of its own, until a run meets no failure.
pub fn fail_each_call(seed: u64, script: &str, dress: Dress, kind: io::ErrorKind, stride: usize) {
    let mut call = 1 + seed % stride as u64;
    loop {
        let world = World::new(seed);
        world.fail_call(call, kind);
        let mut run = Run::new(world, dress);
        run.script(script);
        let is_over = run.world.calls() < call;
        run.drop_handles();
        run.world.heal();
        let what = format!("seed {seed}, call {call} failed with {kind:?}, errors {:?}", run.errors);
        let after = run.world.kill();
        run.check_after(&after, run.synced, &what);
        let after = run.world.power_cut();
        run.check_after(&after, run.synced, &what);
        if is_over {
            return;
        }
        call += stride as u64;
    }
}

/// A script that the seed makes: long, with everything in any order.
pub fn random_script(seed: u64, lines: usize) -> String {
    let mut rng = fastrand::Rng::with_seed(seed);
    // Some have partitions.
    let [users, names] = [0, 1].map(|number| match seed % 5 + number {
        3 => "hash",
        4 => "ranges",
        _ => "create",
    });
    let make = |keyspace: &str| match if keyspace == "users" { users } else { names } {
        "hash" => format!("hash {keyspace} 3\n"),
        "ranges" => format!("ranges {keyspace} k2 k5\n"),
        _ => format!("create {keyspace}\n"),
    };
    let mut script = make("users") + &make("names");
    let keyspaces = ["users", "names"];
    for number in 0..lines {
        let keyspace = keyspaces[rng.usize(..2)];
        let key = rng.usize(..12);
        // Some values are large: memtables fill, segments end.
        let length = [1, 10, 200, 1500, 4000][rng.usize(..5)];
        let operand = if rng.u8(..4) == 0 { "+" } else { "" };
        let put = format!("{operand}k{key} v{number}-*{length}");
        let line = match rng.u32(..100) {
            0..20 => format!("put {keyspace} {put}"),
            20..50 => format!("os {keyspace} {put}"),
            50..58 => format!("ticket {keyspace} {put}"),
            58..72 if key < 5 => format!("scratch {put}"),
            58..72 if key < 6 => format!("scratch -k{}", key - 3),
            72 if key < 3 => "scratch truncate".to_owned(),
            72 => format!("scratch range k{} k{}", key % 4, key % 4 + 3),
            58..62 => "wait".to_owned(),
            62..65 => format!("delete {keyspace} k{key}"),
            65..68 => format!("range {keyspace} k{key} k{}", key + rng.usize(1..4)),
            68..70 => format!("batch users {put}; range users k{key} k{}; users k{key} c{number}", key + 2),
            70..76 => format!("batch users {put}; names k{key} b{number}; users -k{}", (key + 1) % 12),
            76..79 => "flush".to_owned(),
            79..88 => "step".to_owned(),
            88..90 => "jobs".to_owned(),
            90..92 => "tick".to_owned(),
            92 => "swap users names".to_owned(),
            93 if key < 6 => format!("batch names k{key} x; truncate {keyspace}; {keyspace} {put}"),
            93 => format!("truncate {keyspace}"),
            94 => format!("drop {keyspace}\n{}", make(keyspace).trim_end()),
            // Where there are none it says so, and changes nothing.
            95 if key < 4 => format!("split {keyspace} {}", rng.usize(..4)),
            95 if key < 8 => format!("merge {keyspace} {}", rng.usize(..4)),
            96 if key < 3 => format!("split {keyspace} {} k{key}5", rng.usize(..4)),
            95..97 => "close".to_owned(),
            _ => "reopen".to_owned(),
        };
        script.push_str(&line);
        script.push('\n');
    }
    script
}
